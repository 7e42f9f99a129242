# Copyright (c) mvp_mm authors. All rights reserved.
"""Class lists of datasets whose files do not carry them, and styles of writing class names."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mvp_mm.datasets.vocabulary import coco_stuff
from mvp_mm.datasets.vocabulary.objects365_names import tidy_name
from mvp_mm.utils.faults import Faults


def _names(text: str) -> tuple[str, ...]:
    return tuple(' '.join(name.split()) for name in text.split(';'))


# The scene parsing challenge's order (value 1 is "wall"), the first synonym of each class.
_ADE20K = _names("""
    wall; building; sky; floor; tree; ceiling; road; bed; window; grass; cabinet; sidewalk;
    person; earth; door; table; mountain; plant; curtain; chair; car; water; painting; sofa;
    shelf; house; sea; mirror; rug; field; armchair; seat; fence; desk; rock; wardrobe; lamp;
    tub; rail; cushion; base; box; column; signboard; chest of drawers; counter; sand; sink;
    skyscraper; fireplace; refrigerator; grandstand; path; stairs; runway; case; pool table;
    pillow; screen door; stairway; river; bridge; bookcase; blind; coffee table; toilet; flower;
    book; hill; bench; countertop; stove; palm; kitchen island; computer; swivel chair; boat;
    bar; arcade machine; hovel; bus; towel; light; truck; tower; chandelier; awning; street
    lamp; booth; tv; plane; dirt track; clothes; pole; land; bannister; escalator; ottoman;
    bottle; buffet; poster; stage; van; ship; fountain; conveyer belt; canopy; washer;
    plaything; pool; stool; barrel; basket; falls; tent; bag; minibike; cradle; oven; ball;
    food; step; tank; trade name; microwave; pot; animal; bicycle; lake; dishwasher; screen;
    blanket; sculpture; hood; sconce; vase; traffic light; tray; trash can; fan; pier; crt
    screen; plate; monitor; bulletin board; shower; radiator; glass; clock; flag""")
_ADE20K_STUFF = _names("""
    wall; building; sky; floor; tree; ceiling; road; grass; sidewalk; earth; mountain; plant;
    water; house; sea; rug; field; rock; base; sand; skyscraper; grandstand; path; runway;
    stairway; river; bridge; blind; hill; bar; hovel; tower; dirt track; land; escalator;
    buffet; poster; stage; conveyer belt; canopy; pool; falls; tent; cradle; tank; lake;
    blanket; pier; crt screen; shower""")
# In the order of the train ids.
_CITYSCAPES = _names("""
    road; sidewalk; building; wall; fence; pole; traffic light; traffic sign; vegetation;
    terrain; sky; person; rider; car; truck; bus; train; motorcycle; bicycle""")
_CITYSCAPES_STUFF = _CITYSCAPES[:11]
# In the order of the values 1 to 20.
_VOC = _names("""
    aeroplane; bicycle; bird; boat; bottle; bus; car; cat; chair; cow; dining table; dog; horse;
    motorbike; person; potted plant; sheep; sofa; train; tv monitor""")
# VOC's classes first, as in the dataset's own list of the 59 frequent classes.
_CONTEXT = _names("""
    aeroplane; bicycle; bird; boat; bottle; bus; car; cat; chair; cow; table; dog; horse;
    motorbike; person; potted plant; sheep; sofa; train; tv monitor; bag; bed; bench; book;
    building; cabinet; ceiling; cloth; computer; cup; door; fence; floor; flower; food; grass;
    ground; keyboard; light; mountain; mouse; curtain; platform; sign; plate; road; rock;
    shelves; sidewalk; sky; snow; bedclothes; track; tree; truck; wall; water; window; wood""")
# The dataset has no flags; these are what COCO panoptic would take as stuff.
_CONTEXT_STUFF = _names("""
    building; cabinet; ceiling; cloth; door; fence; floor; flower; food; grass; ground; light;
    mountain; curtain; platform; road; rock; shelves; sidewalk; sky; snow; bedclothes; track;
    tree; wall; water; window; wood""")
# The order of the classes' ids among the dataset's 459.
_CONTEXT_IDS = _names("""
    aeroplane; bag; bed; bedclothes; bench; bicycle; bird; boat; book; bottle; building; bus;
    cabinet; car; cat; ceiling; chair; cloth; computer; cow; cup; curtain; dog; door; fence;
    floor; flower; food; grass; ground; horse; keyboard; light; motorbike; mountain; mouse;
    person; plate; platform; potted plant; road; rock; sheep; shelves; sidewalk; sign; sky;
    snow; sofa; table; track; train; tree; truck; tv monitor; wall; water; window; wood""")

_VOCABULARIES = dict(
    coco_stuff_171=((*coco_stuff.THINGS, *coco_stuff.STUFF), coco_stuff.STUFF),
    ade20k_150=(_ADE20K, _ADE20K_STUFF),
    cityscapes_19=(_CITYSCAPES, _CITYSCAPES_STUFF),
    pascal_voc_20=(_VOC, ()),
    pascal_context_59=(_CONTEXT, _CONTEXT_STUFF),
    pascal_context_59_by_id=(_CONTEXT_IDS, _CONTEXT_STUFF))


def load_vocabulary(vocabulary: str | Sequence[str], stuff: str | Sequence[str] | None = None,
                    root: str | Path = '') -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Read a class list: a published one, or names of one's own.

    Args:
        vocabulary: ``ade20k_150``, ``cityscapes_19``, ``coco_stuff_171``, ``pascal_voc_20``,
            ``pascal_context_59`` or ``pascal_context_59_by_id`` (see
            ``docs/reference/datasets.md`` for its two orders); or class names; or a text file
            with one name per line.
        stuff: Of names of one's own, those that are stuff, as names or as a text file; ``()`` for
            none. A published list knows.
        root: Folder that relative paths of text files start from.

    Returns:
        Class names, and whether each is a thing.

    Raises:
        ValueError: If there is no such list, a name is empty or comes twice, or ``stuff`` is
            missing, given for a published list, or has a name that the list lacks.
    """
    if isinstance(vocabulary, str) and vocabulary in _VOCABULARIES:
        if stuff is not None:
            raise ValueError(f'the class list {vocabulary} says itself which classes are stuff: '
                             'leave stuff out')
        names, stuff_names = _VOCABULARIES[vocabulary]
    else:
        names, origin = _own_names(vocabulary, root)
        if stuff is None:
            raise ValueError(f'{origin}: say which of these classes are stuff: stuff=[names], or '
                             'stuff=() for none')
        stuff_names, _ = _own_names(stuff, root)
        unknown = sorted(set(stuff_names) - set(names))
        if unknown:
            raise ValueError(f'{origin}: stuff has names that are no classes: {unknown}')
    return names, tuple(name not in stuff_names for name in names)


def _own_names(names: str | Sequence[str], root: str | Path) -> tuple[tuple[str, ...], str]:
    """Names given or read from a text file, and what messages call their list."""
    origin = 'vocabulary'
    if isinstance(names, str):
        path = Path(root) / names
        if not path.is_file():
            raise ValueError(f'no class list {names!r}, there are {sorted(_VOCABULARIES)}, and no '
                             f'file {path}')
        origin = str(path)
        try:
            text = path.read_bytes().decode('utf-8-sig')
        except UnicodeDecodeError as error:
            raise ValueError(f'{path} is not UTF-8: {error}') from error
        names = [line for line in text.splitlines() if line.strip()]
    return tuple(Faults(origin).classes(names)), origin


def first_synonym(name: str) -> str:
    """The first of a class's synonyms: ``road, route`` → ``road`` (ADE20K)."""
    return name.split(',')[0].strip()


def spaced(name: str) -> str:
    """Underscores to spaces: ``bat_(animal)`` → ``bat (animal)`` (LVIS)."""
    return ' '.join(name.replace('_', ' ').split())


NAME_STYLES: dict[str, Callable[[str], str]] = dict(
    first_synonym=first_synonym, spaced=spaced, objects365=tidy_name)


def get_name_style(style: str | None) -> Callable[[str], str]:
    """A style by its name; None keeps names as they are.

    Raises:
        ValueError: If the style is unknown.
    """
    if style is None:
        return str
    if style not in NAME_STYLES:
        raise ValueError(f'name_style must be one of {sorted(NAME_STYLES)} or None, got {style!r}')
    return NAME_STYLES[style]
