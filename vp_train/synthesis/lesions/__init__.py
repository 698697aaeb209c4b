"""Synthetic lesions (paper B.6, Figure 7): drawn into a label map, painted into images, with the facts that words use.

- `anatomy`: lobe, side, vascular territory and compartment of each voxel: `load_anatomies(folder, subjects, cache)`,
  `anatomy_of(subject)` where there are no parcels.
- `kinds`: what kinds of lesions there are (`kinds.json`): sizes, places, signal, components.
- `shapes`: lobulated connected shapes from Brownian noise, or from real masks (`read_shapes(folder)`).
- `draw`: `draw_lesions(subject, anatomy, chance, count, kinds=None, avoid=(), shapes=())` → lesions of a subject.
- `times`: `another_time(lesion, growth, kind=None)` → the same lesion at another date, as another stage where given.
- `painting`: `Layer.of(lesions, subject)`, `paint(…)` into an image, `shares(…)` as targets.
- `model`: the values that these pass to each other; `SyntheticLesion.facts_in(deformation)` for prompts and answers.

`vp_train.synthesis.scene.Scene.synthetic` holds the lesions of a scene: `render` paints them, `lesion_targets` gives
their masks.
"""
