"""Who runs a sweep's workers: this process, copies of it, torchrun, or Ray. The worker's code is the same."""
