# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "onnxruntime>=1.20",
#     "numpy>=2.0",
#     "opencv-python>=5.0",
#     "av>=18.1",
#     "pillow>=10.1",
#     "ftfy>=6.3",
#     "regex>=2023.8",
#     "requests>=2.31",
#     "urllib3>=2.0",
#     "tqdm>=4.66",
#     "platformdirs>=4.13",
#     "filelock>=3.13",
#     "xxhash>=3.2",
#     "wcwidth>=0.5",
#     "jinja2>=3.1.4",
# ]
# ///
"""The command, from a clone: `python action_clip.py`, or with no set-up `uv run action_clip.py`."""

if __name__ == "__main__":
    from action_clip.__main__ import start

    start()
