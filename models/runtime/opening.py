"""Making a session for a graph's file: from the session cache where possible, else from the file itself."""

from functools import partial
from pathlib import Path

import onnxruntime

from action_clip.errors import ActionClipError
from action_clip.models.cache.session_cache import cached_session
from action_clip.models.catalog.structure import check_graph
from action_clip.models.runtime.devices import CPU, device_name
from action_clip.models.runtime.sessions import SessionError, make_session, session_options
from action_clip.models.store.home import warn_once


def open_session(
    path: Path, provider: str, *, threads: int | None, spins: bool, prepack: bool, cache: bool
) -> onnxruntime.InferenceSession:
    """Return a session of the graph at `path`; the other arguments are as for `Graph`.

    Raises:
        SessionError: the file cannot be read, `check_graph` refuses it, or onnxruntime cannot load it.
        ActionClipError: the provider does not start.
    """
    session, problem = None, None
    options = partial(_options, provider, threads, spins=spins, prepack=prepack)
    if cache and provider == CPU:
        try:
            session = cached_session(path, options())
        except (OSError, EOFError, ValueError, ActionClipError, SessionError) as error:
            problem = error  # of the disk, the graph or onnxruntime
    if session is None:
        session = _uncached_session(path, provider, options())
    if problem is not None:
        # Once in each process: a problem of the disk concerns every graph.
        text = "%s cannot be kept ready for this machine, so runs start slower: %s"
        warn_once("kept ready", text, path, problem)
    return session


def _uncached_session(path: Path, provider: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        check_graph(path)
    except OSError as error:
        raise SessionError(error.strerror or error) from error
    except ValueError as error:
        raise SessionError(error) from error
    session = make_session(path, options, provider)
    # onnxruntime puts the CPU in the place of a provider whose libraries are missing, without an error.
    if provider not in session.get_providers():
        raise ActionClipError(
            f"the device '{device_name(provider)}' could not be started, only "
            f"{', '.join(session.get_providers())} could: install what its provider needs or use --device cpu"
        )
    return session


def _options(provider: str, threads: int | None, *, spins: bool, prepack: bool) -> onnxruntime.SessionOptions:
    options = session_options(threads)
    # Errors on the CPU are raised; why another provider does not start is only in onnxruntime's log.
    options.log_severity_level = 4 if provider == CPU else 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.disable_prepacking", str(int(not prepack)))
    # Between runs, the threads leave the cores to other work.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
