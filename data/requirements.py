"""scikit-learn, which metrics, folds and heads need and classifying does not."""

from action_clip.errors import ActionClipError


def require_scikit_learn() -> None:
    """Raise ActionClipError where scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ActionClipError(
            f"{error}: this needs scikit-learn, pip install 'action-clip[train]', or in a clone pip install -r "
            "requirements-train.txt"
        ) from error
