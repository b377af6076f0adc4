"""What to fit, in which order, on which cores and until when; all that concerns time stands here.

Doors: `make_schedule`, and the records `Schedule`, `Stage` and `Member` that drafts store.
"""

from digit_recognizer.schedule.minutes import check_minutes, make_schedule
from digit_recognizer.schedule.stages import Member, Schedule, Stage, recipe_of

__all__ = ["Member", "Schedule", "Stage", "check_minutes", "make_schedule", "recipe_of"]
