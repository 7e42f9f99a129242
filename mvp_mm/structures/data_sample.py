# Copyright (c) mvp_mm authors. All rights reserved.
"""Defines the data sample that pipeline, model, metrics and visualizer share."""
from __future__ import annotations

from typing import Any

from mmdet.structures import DetDataSample
from torch import Tensor

from mvp_mm.structures.instruction import Instruction


class PerceptionDataSample(DetDataSample):
    """One instruction about one image, with its targets and predictions.

    On top of :obj:`mmdet.structures.DetDataSample`:

    - ``gt_instances`` (network frame, padded canvas): ``bboxes`` (m, 4) float xyxy in pixels,
      ``labels`` (m,) indices into the instruction's phrases, and, unless the data is box-only,
      ``masks`` (m, H, W) bool tensor.
    - ``instruction``: the question; ``task_object``: the task that decodes its answer.
    - ``gt_eval``: dict, the ground truth in the original image's frame, packed for evaluation
      only. Keys where they apply: ``panoptic`` (h, w) int32 map of segment ids (0 is void),
      ``segments_info`` list of dicts (id, label, iscrowd), ``bboxes`` (m, 4) float32 xyxy,
      ``masks`` list of m COCO RLE dicts, ``labels`` (m,), ``crowd`` (m,) bool.
    - ``pred_instances`` (original frame): ``bboxes`` (n, 4) xyxy, ``scores`` (n,), ``labels``
      (n,), ``masks`` (n, h, w) bool where the task segments.
    - ``pred_panoptic_seg``: dict with ``panoptic`` (h, w) int32 map of segment ids (0 is void)
      and ``segments_info`` (id, label, isthing, score).
    - ``pred_sem_seg``: (h, w) int64 tensor of phrase indices.
    - ``pred_candidates`` (original frame): the best ``num_candidates`` queries before selection,
      as ``pred_instances``; what an oracle could choose from.
    - ``pred_caption``: the text that the LLM wrote before ``<PER>``.
    - ``pred_sentence_presence``: scalar tensor, the probability that a sentence means anything.
    - ``pred_response_forced``: whether it was cut (at its limit, or where the LLM stopped) and
      "The perception result is ``<PER>``" forced.

    Metainfo: ``img_id``, ``img_path``, ``ori_shape`` (h, w), ``img_shape`` (h, w) of the resized
    image, ``batch_input_shape`` (H, W) of the canvas, ``scale_factor`` (w, h), ``task``,
    ``image_index`` (row of the image in the batch), and what the task's request carries.
    """

    @property
    def instruction(self) -> Instruction:
        """Return what is asked."""
        return self._instruction

    @instruction.setter
    def instruction(self, value: Instruction) -> None:
        self.set_field(value, '_instruction', dtype=Instruction)

    @property
    def task_object(self) -> Any:
        """Return the task that asked and that decodes."""
        return self._task_object

    @task_object.setter
    def task_object(self, value: Any) -> None:
        self.set_field(value, '_task_object')

    @property
    def gt_eval(self) -> dict[str, Any]:
        """Return the ground truth in the original image's frame."""
        return self._gt_eval

    @gt_eval.setter
    def gt_eval(self, value: dict[str, Any]) -> None:
        self.set_field(value, '_gt_eval', dtype=dict)

    @property
    def pred_panoptic_seg(self) -> dict[str, Any]:
        """Return the predicted segments and their map (h, w)."""
        return self._pred_panoptic_seg

    @pred_panoptic_seg.setter
    def pred_panoptic_seg(self, value: dict[str, Any]) -> None:
        self.set_field(value, '_pred_panoptic_seg', dtype=dict)

    @property
    def pred_sem_seg(self) -> Any:
        """Return the predicted semantic map."""
        return self._pred_sem_seg

    @pred_sem_seg.setter
    def pred_sem_seg(self, value: Any) -> None:
        self.set_field(value, '_pred_sem_seg')

    @property
    def pred_candidates(self) -> Any:
        """Return the best queries of a sentence, with scores."""
        return self._pred_candidates

    @pred_candidates.setter
    def pred_candidates(self, value: Any) -> None:
        self.set_field(value, '_pred_candidates')

    @property
    def pred_caption(self) -> str:
        """Return what the LLM wrote before it perceived."""
        return self._pred_caption

    @pred_caption.setter
    def pred_caption(self, value: str) -> None:
        self.set_field(value, '_pred_caption', dtype=str)

    @property
    def pred_sentence_presence(self) -> Tensor:
        """Return the probability, a scalar, that a sentence means anything."""
        return self._pred_sentence_presence

    @pred_sentence_presence.setter
    def pred_sentence_presence(self, value: Tensor) -> None:
        self.set_field(value, '_pred_sentence_presence', dtype=Tensor)

    @property
    def pred_response_forced(self) -> bool:
        """Return whether the end of the response was forced."""
        return self._pred_response_forced

    @pred_response_forced.setter
    def pred_response_forced(self, value: bool) -> None:
        self.set_field(value, '_pred_response_forced', dtype=bool)
