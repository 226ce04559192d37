"""As if a new process had begun, as far as this program remembers anything of files."""

import cores
import models.home
import models.label_bank
from models.feature_memory import MEMORY


def forget() -> None:
    """Forget features, files that were given up, what was said once, and quotas."""
    MEMORY.clear()
    for known in (models.home._said, models.label_bank._unusable, models.label_bank._unwritable):
        known.clear()
    cores._quotas.cache_clear()
