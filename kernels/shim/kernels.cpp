// The kernels for one K (POS_K), as the build compiles them; each K is a translation unit, since sources are included once.
#include "cuda_shim.h"

namespace {
#include "../cuda/kernels.cu"

SHIM_REGISTER(first_table, POS_K)
SHIM_REGISTER(match_2, POS_K)
SHIM_REGISTER(match_3, POS_K)
SHIM_REGISTER(match_4, POS_K)
SHIM_REGISTER(match_5, POS_K)
SHIM_REGISTER(match_6, POS_K)
SHIM_REGISTER(match_7, POS_K)
SHIM_REGISTER(find_ties, POS_K)
SHIM_REGISTER(resolve_ties, POS_K)
SHIM_REGISTER(rank_proofs, POS_K)
SHIM_REGISTER(walk_proofs, POS_K)
SHIM_REGISTER(hash_proofs, POS_K)
SHIM_REGISTER(extend_columns_inverse, POS_K)
SHIM_REGISTER(extend_rows, POS_K)
SHIM_REGISTER(extend_columns_forward, POS_K)
SHIM_REGISTER(encode_chunks, POS_K)
}  // namespace
