"""Networks that change while they run: edits as data, which optimizers, target networks and traces follow; when to make them."""

from tensor.structure.blocks import Injection, Residual
from tensor.structure.change import Change
from tensor.structure.depth import DEEPENINGS, deepen, inject, replace
from tensor.structure.draws import INITS
from tensor.structure.drift import Adwin
from tensor.structure.edit import Edit, OutputChange
from tensor.structure.edits import add_inputs, add_outputs, grow, prune, reset_units
from tensor.structure.policies import Growth, Seen, dormant, drift, every, new_action, plateau, utility
from tensor.structure.remap import Slices, remap
from tensor.structure.renewal import ContinualBackprop, ReDo
from tensor.structure.resize import Resize
from tensor.structure.spec import build, describe
from tensor.structure.tester import Tester
from tensor.structure.trace import trace
from tensor.structure.units import Units

__all__ = [
    "DEEPENINGS", "INITS", "Adwin", "Change", "ContinualBackprop", "Edit", "Growth", "Injection", "OutputChange", "ReDo",
    "Residual", "Resize", "Seen", "Slices", "Tester", "Units", "add_inputs", "add_outputs", "build", "deepen", "describe",
    "dormant", "drift", "every", "grow", "inject", "new_action", "plateau", "prune", "remap", "replace", "reset_units", "trace",
    "utility",
]  # fmt: skip
