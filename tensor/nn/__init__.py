from tensor.nn import functional
