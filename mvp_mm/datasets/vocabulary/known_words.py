# Copyright (c) mvp_mm authors. All rights reserved.
"""Which words the class lists of the field take as things and which as stuff."""
from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from mvp_mm.datasets.vocabulary.class_lists import _names, load_vocabulary

_LISTS = ('ade20k_150', 'cityscapes_19', 'pascal_voc_20', 'pascal_context_59')
# COCO's files carry its classes; these are their names without suffixes such as "-merged".
_COCO_THINGS = _names("""
    person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire
    hydrant; stop sign; parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant; bear;
    zebra; giraffe; backpack; umbrella; handbag; tie; suitcase; frisbee; skis; snowboard; sports
    ball; kite; baseball bat; baseball glove; skateboard; surfboard; tennis racket; bottle; wine
    glass; cup; fork; knife; spoon; bowl; banana; apple; sandwich; orange; broccoli; carrot; hot
    dog; pizza; donut; cake; chair; couch; potted plant; bed; dining table; toilet; tv; laptop;
    mouse; remote; keyboard; cell phone; microwave; oven; toaster; sink; refrigerator; book;
    clock; vase; scissors; teddy bear; hair drier; toothbrush""")
_COCO_STUFF = _names("""
    banner; blanket; bridge; cardboard; counter; curtain; door; floor; flower; fruit; gravel;
    house; light; mirror; net; pillow; platform; playingfield; railroad; river; road; roof; sand;
    sea; shelf; snow; stairs; tent; towel; wall; water; window blind; window; tree; fence;
    ceiling; sky; cabinet; table; pavement; mountain; grass; dirt; paper; food; building; rock;
    rug; brick wall; stone wall; tile wall; wood wall; wood floor""")


@lru_cache(maxsize=1)
def known_things() -> Mapping[str, bool]:
    """Look up what class lists agree on: COCO, ADE20K, Cityscapes, PASCAL VOC and Context.

    Returns:
        Whether a word is a thing, for the words on which all lists that hold it agree: "table"
        is a thing in ADE20K and stuff in COCO, so it is not there.
    """
    kinds: dict[str, set[bool]] = {}
    lists = [load_vocabulary(name) for name in _LISTS]
    lists.append((_COCO_THINGS, (True, ) * len(_COCO_THINGS)))
    lists.append((_COCO_STUFF, (False, ) * len(_COCO_STUFF)))
    for names, flags in lists:
        for name, flag in zip(names, flags, strict=True):
            kinds.setdefault(name, set()).add(flag)
    return MappingProxyType(
        {name: flags.pop() for name, flags in kinds.items() if len(flags) == 1})
