"""As if a new process had begun, as far as this program remembers anything of files."""

import action_clip.models.cache.blob_file
import action_clip.models.cache.video_bank
import action_clip.models.store.home
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.runtime import devices
from action_clip.system import cores


def forget() -> None:
    """Forget features, files that were given up, the video bank, what was said once, quotas, what device auto is."""
    MEMORY.clear()
    for known in (
        action_clip.models.store.home._warned,
        action_clip.models.cache.blob_file._unusable,
        action_clip.models.cache.blob_file._unwritable,
    ):
        known.clear()
    action_clip.models.cache.video_bank._bank_at.cache_clear()
    cores._quotas.cache_clear()
    devices._best_provider.cache_clear()
