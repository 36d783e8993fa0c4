"""Agents: one file and one configuration dataclass each; `rlcore.registry.AGENTS` finds them by name."""
