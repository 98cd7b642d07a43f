"""an8Flower, drawn: exact arithmetic, surfaces, a plant, its surroundings, a scene, and the data set made of scenes.

    exact -> render -> plant, backdrop -> scene -> dataset
    options, cache: what a data set is, and its files; files: the authors' released layout

No file here imports torch: the processes that draw need none.
"""
