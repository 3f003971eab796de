"""The workspace of the plugin's tests, for the tables of wrong inputs."""

from ..plugin.conftest import workspace

__all__ = ["workspace"]
