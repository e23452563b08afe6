"""A network is data. `SSDSpec` says everything, `build` makes it: backbone, extras, heads, anchors."""
