"""Pictures of the engine's real objects.

Interface:
- `layers.LayerExplorer`: what each instruction of an image added, changed and deleted.
- `recorder.RunRecorder`: who did what, and for how long, from the client's call to the program's exec.

Rules: each has a static twin in HTML that nbconvert, GitHub and nbval see; the widget is a plain ES module and a
style sheet beside its class, and loads nothing from anywhere.
"""
