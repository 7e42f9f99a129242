# Copyright (c) mvp_mm authors. All rights reserved.
"""Caption the images of a folder, or of a dataset of a config, with a VLM.

Run once for each VLM, on as many machines as there are shards. A run that was killed goes on where
it stopped. Exit code 1 where an image is left without a caption.

Examples::

    python tools/data/auto_caption.py --images data/objects365/train --out captions/raw \
        --captioner internvl2-8b --endpoint http://localhost:8000/v1 \
        --model OpenGVLab/InternVL2-8B --shard 0/4
    python tools/data/auto_caption.py --config configs/mvplm/stage2.py \
        --dataset objects365_train --out captions/raw --captioner small-vlm \
        --local checkpoints/small-vlm --device cuda --dtype bfloat16
    python tools/data/auto_caption.py --images data/objects365/train --out captions/raw \
        --captioner small-vlm --local checkpoints/small-vlm --device cuda \
        --ray-shards 512 --ray-actors 8 --ray-gpus 1
"""
from __future__ import annotations

import argparse
import sys

from mvp_mm.captioning.backends import PROMPT, CaptionerError, CaptionSampling
from mvp_mm.captioning.jobs import CaptionJob, make_parser
from mvp_mm.captioning.ray_shards import work_on_shards
from mvp_mm.captioning.run import summarise


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__.splitlines()[0], 'folder of the captions, of all captioners',
                         'ask again about images that could not be captioned')
    parser.add_argument('--captioner', required=True, help='name of the captioner in that folder')
    backend = parser.add_mutually_exclusive_group(required=True)
    backend.add_argument('--endpoint', help='address of an OpenAI-compatible API, ending in /v1')
    backend.add_argument('--local', help='folder of a model that transformers can load')
    parser.add_argument('--prompt', default=PROMPT, help='what is asked about each image')
    sampling = CaptionSampling()
    parser.add_argument('--max-tokens', type=int, default=sampling.max_tokens)
    parser.add_argument('--temperature', type=float, default=sampling.temperature)
    parser.add_argument('--top-p', type=float, default=sampling.top_p)
    parser.add_argument('--seed', type=int, help='seed of the sampling')
    parser.add_argument('--max-side', type=int, help='shrink larger images to this side, pixels')
    parser.add_argument('--max-failures-in-a-row', type=int, default=50,
                        help='stop after so many failures without a caption between them')
    served = parser.add_argument_group('with --endpoint')
    served.add_argument('--model', help="the served model's name")
    served.add_argument('--concurrency', type=int, default=16, help='requests at a time')
    served.add_argument('--timeout', type=float, default=300.0, help='of a request, seconds')
    served.add_argument('--attempts', type=int, default=8, help='of one image')
    served.add_argument('--first-wait', type=float, default=1.0,
                        help='before the second attempt, seconds; it doubles from then on')
    served.add_argument('--api-key-variable', default='OPENAI_API_KEY',
                        help='environment variable that holds the key, if one is needed')
    local = parser.add_argument_group('with --local')
    local.add_argument('--batch-size', type=int, default=8)
    local.add_argument('--device', default='cpu')
    local.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16', 'float16'))
    args = parser.parse_args()
    if args.endpoint and not args.model:
        parser.error('--endpoint needs --model')
    for name in ('concurrency', 'attempts', 'batch_size', 'max_failures_in_a_row'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def main() -> None:
    """Caption."""
    args = parse_args()
    try:
        report = work_on_shards(args, CaptionJob(args))
    except (OSError, ValueError, CaptionerError) as error:
        sys.exit(f'error: {error}')
    print(summarise(report))
    if not report.complete:
        sys.exit(1)


if __name__ == '__main__':
    main()
