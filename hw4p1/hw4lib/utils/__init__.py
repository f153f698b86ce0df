"""Optimizers and learning-rate schedules from a configuration."""

from .create_lr_scheduler import create_scheduler, plot_lr_schedule
from .create_optimizer import create_optimizer

__all__ = ["create_optimizer", "create_scheduler", "plot_lr_schedule"]
