# ODinW: the 13 datasets of GLIP's comparison, each a folder of images with its own COCO JSON. Its
# figure is the mean of their APs.
_odinw_folders = dict(
    aerial_maritime_drone='AerialMaritimeDrone/large/test',
    aquarium='Aquarium/Aquarium Combined.v2-raw-1024.coco/test',
    cottontail_rabbits='CottontailRabbits/test',
    ego_hands='EgoHands/generic/test',
    mushrooms='NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco/test',
    packages='Packages/Raw/test',
    pascal_voc='PascalVOC/valid',
    pistols='pistols/export',
    pothole='pothole/test',
    raccoon='Raccoon/Raccoon.v2-raw.coco/test',
    shellfish='ShellfishOpenImages/raw/test',
    thermal='thermalDogsAndPeople/test',
    vehicles='VehiclesOpenImages/416x416/test')
_odinw_files = dict(pistols='val_annotations_without_background.json')
_odinw = {
    f'odinw_{_name}': dict(
        type='BoxDetectionDataset',
        data_root='data/odinw',
        ann_file=f'{_folder}/{_odinw_files.get(_name, "annotations_without_background.json")}',
        data_prefix=dict(img=_folder),
        test_mode=True,
        tasks=[dict(type='DetectionTask')],
        metrics=[dict(type='CocoAPMetric', iou_types=['bbox'])])
    for _name, _folder in _odinw_folders.items()
}
