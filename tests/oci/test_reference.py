"""References: every row is one of distribution/reference's own tests, or what the docker client prints."""

from __future__ import annotations

import pytest

from glassdock.errors import InvalidParameter
from glassdock.oci.reference import Reference, is_path, is_tag

SHA = "sha256:" + "f" * 64
SHA512 = "sha512:" + "f" * 128


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("library/foo/bar", "docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
        ("store/foo/bar", "docker.io/store/foo/bar:latest", "store/foo/bar:latest"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}", f"busybox@{SHA}"),
        (f"busybox:1@{SHA}", f"docker.io/library/busybox:1@{SHA}", f"busybox:1@{SHA}"),
        (f"busybox@{SHA512}", f"docker.io/library/busybox@{SHA512}", f"busybox@{SHA512}"),
        ("test_com", "docker.io/library/test_com:latest", "test_com:latest"),
        ("test.com:tag", "docker.io/library/test.com:tag", "test.com:tag"),
        ("test.com:5000", "docker.io/library/test.com:5000", "test.com:5000"),
        ("192.168.1.1:5000", "docker.io/library/192.168.1.1:5000", "192.168.1.1:5000"),
        ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080", "foo_bar.com:8080"),
        ("foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080", "foo/foo_bar.com:8080"),
        ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase", "lowercase:Uppercase"),
        ("docker---rules/docker", "docker.io/docker---rules/docker:latest", "docker---rules/docker:latest"),
        ("dock__er/docker", "docker.io/dock__er/docker:latest", "dock__er/docker:latest"),
        ("docker.io/" + "1a" * 32, "docker.io/library/" + "1a" * 32 + ":latest", "1a" * 32 + ":latest"),
    ],
)
def test_docker_hub_is_the_default_and_is_left_out_again(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar() == familiar
    assert Reference.parse(familiar.partition("@")[0]).name == reference.name


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag"),
    [
        ("localhost/fooo", "localhost", "fooo", "latest"),
        ("localhost/fooo/bar", "localhost", "fooo/bar", "latest"),
        ("LOCALDOMAIN/fooo", "LOCALDOMAIN", "fooo", "latest"),
        ("Foo/bar", "Foo", "bar", "latest"),
        ("Uppercase/lowercase:tag", "Uppercase", "lowercase", "tag"),
        ("test.com/repo:tag", "test.com", "repo", "tag"),
        ("test:5000/repo", "test:5000", "repo", "latest"),
        ("test:5000/repo:tag", "test:5000", "repo", "tag"),
        ("127.0.0.1:8000/private/moonbase", "127.0.0.1:8000", "private/moonbase", "latest"),
        ("192.168.1.1/repo", "192.168.1.1", "repo", "latest"),
        ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", "5050"),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io",
            "test.example.com/my-app",
            "test.example.com",
        ),
        ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", "xn--n3h.com"),
        ("[2001:db8::1]/repo", "[2001:db8::1]", "repo", "latest"),
        ("[2001:db8:1:2:3:4:5:6]/repo:tag", "[2001:db8:1:2:3:4:5:6]", "repo", "tag"),
        ("[::1]:5000/repo", "[::1]:5000", "repo", "latest"),
        ("example.com/" + "a" * 255 + ":tag", "example.com", "a" * 255, "tag"),
        ("example.com/a:" + "t" * 128, "example.com", "a", "t" * 128),
    ],
)
def test_a_domain_is_told_from_a_path(text: str, domain: str, path: str, tag: str) -> None:
    assert Reference.parse(text) == Reference(domain, path, tag)
    assert Reference.parse(text).familiar_name() == f"{domain}/{path}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (":justtag", "invalid reference format"),
        (f"@{SHA}", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("docker/Docker", "invalid reference format: repository name (docker/Docker) must be lowercase"),
        ("docker.io/docker/Docker", "invalid reference format: repository name (docker/Docker) must be lowercase"),
        ("test:5000/Up/low:tag", "invalid reference format: repository name (Up/low) must be lowercase"),
        ("https://github.com/docker/docker", "invalid reference format"),
        ("-docker", "invalid reference format"),
        ("-docker/docker", "invalid reference format"),
        ("docker-/docker", "invalid reference format"),
        ("-docker.io/docker/docker", "invalid reference format"),
        ("docker///docker", "invalid reference format"),
        ("docker.io/docker///docker", "invalid reference format"),
        ("docker/", "invalid reference format"),
        ("____/____", "invalid reference format"),
        ("_docker/_docker", "invalid reference format"),
        ("dock..er/docker", "invalid reference format"),
        ("dock_.er/docker", "invalid reference format"),
        ("dock-.er/docker", "invalid reference format"),
        ("aa/asdf$$^/aa", "invalid reference format"),
        ("busy box", "invalid reference format"),
        ("busybox\n", "invalid reference format"),
        ("busybox:ta\u00e9g", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("busybox:-tag", "invalid reference format"),
        ("busybox:" + "t" * 129, "invalid reference format"),
        ("busybox@latest", "invalid reference format"),
        ("fc00::1:5000/debian", "invalid reference format"),
        ("[fc00::1]", "invalid reference format"),
        ("[fc00::1]:5000", "invalid reference format"),
        ("[fe80::1%eth0]:5000/debian", "invalid reference format"),
        ("[2001:db8:3:4::192.0.2.33]:5000/debian", "invalid reference format"),
        ("example.com/../../etc/passwd", "invalid reference format"),
        ("a.b/" + "a" * 256, "repository name must not be more than 255 characters"),
        ("1a" * 32, f"invalid repository name ({'1a' * 32}), cannot specify 64-byte hexadecimal strings"),
        ("repo@sha256:" + "f" * 34, "invalid checksum digest length: 34 hex digits"),
        ("repo@sha256:" + "F" * 64, "invalid checksum digest format"),
        ("repo@md5:" + "f" * 32, "unsupported digest algorithm: md5"),
        ("name@invaliddigest:" + "f" * 64, "unsupported digest algorithm: invaliddigest"),
    ],
)
def test_what_docker_refuses_is_refused_in_its_words(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Reference.parse(text)
    assert caught.value.message == message


def test_the_remedy_for_upper_case_is_the_name_in_lower_case_with_the_tag_as_it_was() -> None:
    with pytest.raises(InvalidParameter) as caught:
        Reference.parse("Me/App:V1")
    assert caught.value.remedy is None  # "Me" is a domain for Docker: changing it would change where the image is
    with pytest.raises(InvalidParameter) as caught:
        Reference.parse("me/App:V1")
    assert caught.value.remedy == "Write it in lower case: me/app:V1"


def test_exact_makes_no_tag_up() -> None:
    assert Reference.exact("busybox") == Reference("docker.io", "library/busybox")
    assert str(Reference.exact("busybox")) == "docker.io/library/busybox"
    assert Reference.exact("busybox:1").tag == "1"


def test_tag_and_digest_are_exchanged_and_checked() -> None:
    reference = Reference.parse("me/app:1")
    assert str(reference.with_tag("2")) == "docker.io/me/app:2"
    assert reference.with_digest(SHA).target == SHA
    assert reference.target == "1"
    assert reference.repository() == Reference("docker.io", "me/app")
    with pytest.raises(InvalidParameter):
        reference.with_tag("-2")
    with pytest.raises(InvalidParameter):
        reference.with_digest("sha256:12")


def test_names_at_a_registry_are_checked_alone() -> None:
    assert is_path("a/b__c/d---e.f")
    assert not is_path("a//b") and not is_path("A") and not is_path("a" * 256) and not is_path("../a")
    assert is_tag("v1.0-rc_1") and not is_tag(".hidden") and not is_tag("a/b") and not is_tag("")
