"""How it is computed fast and the same everywhere: nobody has to read this to understand the rest.

`updates` takes the neurons of a layer through a block of steps, by the compiled code of `cpu` or
`cuda` where it can (`layer` is what both are told), else by `plain` steps; `parallel` runs chunks
of images in threads; `order_statistics` finds percentiles of streams that are never kept; `modes`
keeps a call apart from what surrounds it.
"""
