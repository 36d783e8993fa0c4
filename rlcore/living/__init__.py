"""Networks that change while an agent learns: the structure file, its policies and edits, the history of a run's edits."""

from rlcore.living.edits import EDITS, Place
from rlcore.living.history import replay
from rlcore.living.life import Life
from rlcore.living.plan import Plan, Rule, read_plan
from rlcore.living.policies import POLICIES, Look
from rlcore.living.renewals import Renewal

__all__ = ["EDITS", "POLICIES", "Life", "Look", "Place", "Plan", "Renewal", "Rule", "read_plan", "replay"]
