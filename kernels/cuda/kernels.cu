// All kernels: what NVRTC and the shim compile. Each step has its file.
#include "encoding.cu"
#include "extension.cu"
#include "first_table.cu"
#include "matching.cu"
#include "proofs.cu"
#include "ranking.cu"
#include "search.cu"
