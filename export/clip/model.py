"""The exporter's interface to CLIP and ActionCLIP."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.export import Dim

from action_clip.export.clip.assemble import Networks, assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.clip.networks import ClassTokenFusion, TransformerFusion
from action_clip.export.graphs import BATCH, MOST, to_onnx
from action_clip.export.source_model import ExportOptions, SourceModel, sample_clip, spec_of_export
from action_clip.models.catalog.specs import ModelSpec
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts

LABELS = ("eating", "playing the piano", "riding a bike", "a person falls down in the street")


class ClipModel(SourceModel):
    """A CLIP or an ActionCLIP, which is exported to a text, an image and a fusion graph."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.layout, self.sha256 = networks.checkpoint.layout, networks.checkpoint.sha256
        self.networks = {"text": networks.text, "image": networks.image, "fusion": networks.fusion}

    def spec(self, name: str, licence: str) -> ModelSpec:
        networks = self._networks
        return spec_of_export(
            "zero-shot",
            name,
            licence,
            frames=networks.frames,
            image_size=networks.image.image_size,
            resize=networks.resize,
            mean=networks.mean,
            std=networks.std,
            uniform=networks.checkpoint.uniform,
            logit_scale=networks.logit_scale,
            prompts=networks.checkpoint.prompts,
        )

    def details(self) -> dict[str, str]:
        temporal = self._networks.image.temporal
        return {
            "fusion": self._networks.fusion_name,
            "activation": self._networks.activation,
            **({} if temporal is None else {"temporal": temporal}),
        }

    def graph(self, role: str) -> onnx.ModelProto:
        networks = self._networks
        if role == "text":
            tokens = torch.zeros(2, 8, dtype=torch.long)
            return to_onnx(networks.text, "tokens", tokens, {0: BATCH, 1: Dim("length", max=CONTEXT_LENGTH)})
        if role == "image":
            image = networks.image
            # A tower that mixes the frames of a clip takes whole clips.
            batch = BATCH if image.temporal is None else image.frames * Dim("clips", max=MOST // image.frames)
            frames = torch.zeros(2 * image.frames, 3, image.image_size, image.image_size)
            return to_onnx(image, "frames", frames, {0: batch})
        features = torch.zeros(2, networks.frames, networks.image.proj.shape[1])
        axes = {0: BATCH}
        if not isinstance(networks.fusion, ClassTokenFusion):
            fusion = networks.fusion
            most = fusion.frame_position_embeddings.num_embeddings if isinstance(fusion, TransformerFusion) else MOST
            axes[1] = Dim("frames", max=most)
        return to_onnx(networks.fusion, "frame_features", features, axes)

    def examples(self) -> dict[str, list[NDArray[Any]]]:
        networks = self._networks
        frames = sample_clip(self.spec("", ""))
        mirrored = np.ascontiguousarray(frames[..., ::-1])
        images = [frames, np.concatenate([frames, mirrored])]
        if networks.image.temporal is None:
            images = [frames[:3], *images, frames[:1]]
        with torch.no_grad():
            features, of_mirrored = (networks.image(torch.from_numpy(clip)).numpy() for clip in (frames, mirrored))
        clips = np.stack([features, of_mirrored, features[::-1]])
        fusions = [clips[:1], clips]
        if not isinstance(networks.fusion, ClassTokenFusion):
            fusions.append(clips[:2, :3])
        prompts = fill_prompts(DEFAULT_PROMPTS, LABELS)
        return {
            "text": [_tokens(prompts), _tokens([LABELS[0]]), _tokens(prompts[:3], CONTEXT_LENGTH)],
            "image": images,
            "fusion": fusions,
        }


def clip_model(source: Path, options: ExportOptions) -> ClipModel:
    """Return the CLIP or ActionCLIP of a checkpoint. Raises ActionClipError as `read_checkpoint` and `assemble` do."""
    checkpoint = read_checkpoint(source, trust=options.trust)
    networks = assemble(checkpoint, fusion=options.fusion, frames=options.frames, activation=options.activation)
    return ClipModel(networks)


def _tokens(texts: list[str], length: int = 0) -> NDArray[np.int64]:
    """Return the tokens of N texts, (N, L) int64, L that of the longest text but at least `length`."""
    tokens = default_tokenizer().encode(texts)
    return tokens[:, : max(length, int(tokens.argmax(axis=1).max()) + 1)]
