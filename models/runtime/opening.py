"""A graph's file → a session: out of the session cache where that can be, else from the file."""

from pathlib import Path

import onnxruntime

from action_clip.errors import ActionClipError
from action_clip.models.cache.session_cache import cached_session
from action_clip.models.catalog.structure import check_graph
from action_clip.models.runtime.devices import CPU, device_name
from action_clip.models.runtime.sessions import SessionError, make_session, session_options
from action_clip.models.store.home import warn_once


def open_session(
    path: Path, provider: str, *, threads: int | None, spins: bool, cache: bool
) -> onnxruntime.InferenceSession:
    """A session of the graph at `path`; the other arguments are as of `Graph`.

    Raises:
        SessionError: the file cannot be read, is not a graph that should be run, or onnxruntime cannot load it.
        ActionClipError: the provider does not start.
    """
    session, problem = None, None
    if cache and provider == CPU:
        try:
            session = cached_session(path, _options(provider, threads, spins))
        except (OSError, EOFError, ValueError, ActionClipError, SessionError) as error:
            problem = error  # of the disk, the graph or onnxruntime
    if session is None:
        session = _uncached_session(path, provider, _options(provider, threads, spins))
    if problem is not None:
        # Once a process: what is wrong with the disk is wrong for every graph.
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


def _options(provider: str, threads: int | None, spins: bool) -> onnxruntime.SessionOptions:
    options = session_options(threads)
    # What goes wrong on the CPU is raised; of other providers, only the log says why they do not start.
    options.log_severity_level = 4 if provider == CPU else 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    # Between runs the cores are for other work.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
