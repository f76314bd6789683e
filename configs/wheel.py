"""Build step that pyproject.toml names: wheels carry configs/ inside the package, where `--config NAME` finds them."""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """`build_py`, and the YAML files of configs/ as pc15/configs/; an editable installation reads configs/ itself."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        for source in sorted(Path("configs").glob("*/*.yaml")):
            target = Path(self.build_lib, "pc15", source)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))
