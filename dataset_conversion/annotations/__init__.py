"""What annotated photographs share (COCO, labelme, CVAT): objects as polygons and run lengths, painted into labels."""
