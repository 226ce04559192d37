"""Making a session for a graph's file: from the session cache where possible, else from the file itself."""

from functools import partial
from pathlib import Path

import onnxruntime

from action_clip.errors import ActionClipError
from action_clip.models.cache.session_cache import cached_session
from action_clip.models.catalog.structure import check_graph
from action_clip.models.runtime.devices import CPU, CUDA, device_name
from action_clip.models.runtime.sessions import SessionError, make_session, session_options
from action_clip.models.store.home import warn_once

NOT_KEPT = (OSError, EOFError, ValueError, ActionClipError, SessionError)
"""Problems of the disk, the graph or onnxruntime, for which a form of the graph is not kept in the session cache."""
# Severities of onnxruntime's log: errors alone, and next to nothing.
ERROR, SILENT = 3, 4


def open_session(
    path: Path, provider: str, *, threads: int | None, spins: bool, prepack: bool, cache: bool, group: int = 1
) -> onnxruntime.InferenceSession:
    """Return a session of the graph at `path`, on CUDA a DeviceSession; the other arguments are as for `Graph`.

    Raises:
        SessionError: the file cannot be read, `check_graph` refuses it, or onnxruntime cannot load it.
        ActionClipError: the provider does not start.
    """
    session, problem = None, None
    options = partial(_options, provider, threads, spins=spins, prepack=prepack)
    if provider == CUDA:
        from action_clip.models.runtime.cuda import open_on_cuda

        return open_on_cuda(path, options, cache=cache, group=group)
    if cache and provider == CPU:
        try:
            session = cached_session(path, options())
        except NOT_KEPT as error:
            problem = error
    if session is None:
        require_sound(path)
        session = started(make_session(path, options(), provider), provider)
    if problem is not None:
        warn_not_kept(path, problem)
    return session


def warn_not_kept(path: Path, problem: Exception) -> None:
    """Warn, once in each process, as a problem of the disk concerns every graph."""
    text = "%s cannot be kept ready for this machine, so runs start slower: %s"
    warn_once("kept ready", text, path, problem)


def require_sound(path: Path) -> None:
    """Raise SessionError where `check_graph` refuses the graph."""
    try:
        check_graph(path)
    except OSError as error:
        raise SessionError(error.strerror or error) from error
    except ValueError as error:
        raise SessionError(error) from error


def started(session: onnxruntime.InferenceSession, provider: str) -> onnxruntime.InferenceSession:
    """Return the session. Raises ActionClipError where it does not use the provider."""
    # onnxruntime puts the CPU in the place of a provider whose libraries are missing, without an error.
    if provider not in session.get_providers():
        needs = "what its provider needs"
        if provider == CUDA:
            needs += " (CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]')"
        raise ActionClipError(
            f"the device '{device_name(provider)}' could not be started, only "
            f"{', '.join(session.get_providers())} could: install {needs} or use --device cpu"
        )
    return session


def _options(provider: str, threads: int | None, *, spins: bool, prepack: bool) -> onnxruntime.SessionOptions:
    options = session_options(threads)
    # Errors on the CPU are raised; why another provider does not start is only in onnxruntime's log.
    options.log_severity_level = SILENT if provider == CPU else ERROR
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.disable_prepacking", str(int(not prepack)))
    # Between runs, the threads leave the cores to other work.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
