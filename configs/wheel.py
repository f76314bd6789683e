"""Build step that pyproject.toml names: wheels carry configs/ and the baseline weights of hooks inside the package."""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """`build_py`, and below pc15/ the files where `--config NAME` and `--hooks baseline` find them.

    An editable installation reads them where they are.
    """

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        for source in [*sorted(Path("configs").glob("*/*.yaml")), *sorted(Path("checkpoints/baseline").iterdir())]:
            target = Path(self.build_lib, "pc15", source)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))
