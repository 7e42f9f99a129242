# Copyright (c) mvp_mm authors. All rights reserved.
"""The 171 classes of COCO-Stuff: COCO's 80 things, then 91 classes of stuff."""
from __future__ import annotations


def _names(text: str) -> tuple[str, ...]:
    return tuple(' '.join(name.split()) for name in text.split(';'))


# In the order of their ids, which go from 1 to 90 with gaps.
THINGS = _names("""
    person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire
    hydrant; stop sign; parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant;
    bear; zebra; giraffe; backpack; umbrella; handbag; tie; suitcase; frisbee; skis; snowboard;
    sports ball; kite; baseball bat; baseball glove; skateboard; surfboard; tennis racket;
    bottle; wine glass; cup; fork; knife; spoon; bowl; banana; apple; sandwich; orange;
    broccoli; carrot; hot dog; pizza; donut; cake; chair; couch; potted plant; bed; dining
    table; toilet; tv; laptop; mouse; remote; keyboard; cell phone; microwave; oven; toaster;
    sink; refrigerator; book; clock; vase; scissors; teddy bear; hair drier; toothbrush""")
# In the order of their ids, 92 to 182; the endings -other and -stuff say nothing to a reader.
STUFF = _names("""
    banner; blanket; branch; bridge; building; bush; cabinet; cage; cardboard; carpet; ceiling;
    ceiling-tile; cloth; clothes; clouds; counter; cupboard; curtain; desk; dirt; door; fence;
    floor-marble; floor; floor-stone; floor-tile; floor-wood; flower; fog; food; fruit;
    furniture; grass; gravel; ground; hill; house; leaves; light; mat; metal; mirror; moss;
    mountain; mud; napkin; net; paper; pavement; pillow; plant; plastic; platform;
    playingfield; railing; railroad; river; road; rock; roof; rug; salad; sand; sea; shelf;
    sky; skyscraper; snow; solid; stairs; stone; straw; structural; table; tent; textile;
    towel; tree; vegetable; wall-brick; wall-concrete; wall; wall-panel; wall-stone; wall-tile;
    wall-wood; water; waterdrops; window-blind; window; wood""")
