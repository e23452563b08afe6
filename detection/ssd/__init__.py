"""Floor 2: a network is data. `SSDSpec` says everything, `build` makes it: backbone, extras, heads, anchors."""
