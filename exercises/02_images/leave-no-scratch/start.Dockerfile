FROM busybox
RUN seq {count} > /scratch
RUN sha256sum /scratch > /sum
RUN rm /scratch
