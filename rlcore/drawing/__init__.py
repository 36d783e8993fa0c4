"""Pictures of runs, as SVG and PNG."""

from rlcore.drawing.living import draw_run
from rlcore.drawing.scene import Scene

__all__ = ["Scene", "draw_run"]
