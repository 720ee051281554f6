"""Pure functions from truth and predictions to scores with 95 % intervals.

`score_table(Cases(...), seed=...)` in `summary` gives every score of a kind of target. Each metric also
stands alone: `ranking` (order), `decisions` (confusion matrix), `probabilities`, `numeric`; intervals are in
`delong`, `intervals` and `collapse`; what is chosen on validation is in `calibration` and `operating`.
Of boxes the same: `box_table(Detections(...), ...)` in `box_tables`, made of `precision` (COCO), `froc` and
`calling` (at thresholds, which are chosen there too). Of label maps `mask_table` in `mask_tables`, of single things in
them `instance_table` in `instances`; `surfaces` and `skeletons` stand alone too.
"""
