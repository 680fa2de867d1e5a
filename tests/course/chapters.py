"""Where the chapters are, and what a kernel needs to run them as the course's tests do.

Interface:
- `CHAPTERS`, `NOTEBOOKS`: their names and their folder.
- `environment(daemon, folder)`: the variables of a learner with a fresh state and a known seed.
- `cells_of(name)`: the cells of an exercise's reference solution, filled for that seed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from glassdock_jupyter import kernelspec
from glassdock_jupyter.exercises_catalog import Catalog
from tests.support.daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
SEED = "course"


def environment(daemon: Daemon, folder: Path) -> dict[str, str]:
    """The environment of a kernel on `daemon`; kernelspec and the learner's state lie under `folder`."""
    os.makedirs(os.environ["IPYTHONDIR"], exist_ok=True)  # else IPython warns and takes a folder in TMPDIR
    kernelspec.install(str(folder))
    return {
        **daemon.env,
        "JUPYTER_PATH": str(folder / "share" / "jupyter"),
        "XDG_STATE_HOME": str(folder / "state"),
        "GLASSDOCK_SEED": SEED,
        "GLASSDOCK_EXERCISES": str(ROOT / "exercises"),
    }


def cells_of(name: str) -> list[str]:
    """What a learner would write into the work cell of the exercise `name`."""
    exercise = Catalog.find().get(name)
    text = exercise.read(exercise.solution_folder / "solution.ipy", exercise.values(SEED))
    return re.split(r"^# %%.*\n", text, flags=re.MULTILINE)
