/* Batches put back into a store of the embedded engine: what a recording of one machine holds, to be asked on another.
 */
#ifndef WFPSA_REPLAY_H
#define WFPSA_REPLAY_H

#include "wfpsa/columns.h"
#include "wfpsa/embedded.h"

/* wfpsa_store_replay is one. */
typedef uint32_t wfpsa_store_replayer(struct wfpsa_store *store, uint64_t count, wfpsa_replayed_context next,
                                      void *source, uint64_t *failed);

/* Adds the contexts of the rows start, start + step, ... (count of them), each under its own id and as it was: a
 * snapshot of the store shows in every column of the batch what the batch does. All of them, or none.
 *
 * What columns do not hold becomes what is usual: keys as long as their algorithm asks for, an AH SA as the second,
 * no tokens, no key-module state, a transport filter without name and conditions; where the two directions disagree
 * the inbound traffic has another remote port. Lifetimes begin anew. A column that the batch lacks is as if it were
 * 0 or absent; without those that say otherwise an SA is ESP with SHA-256 and AES-128-CBC, in transport mode, over the
 * IP version of its addresses, IPv4 without them.
 *
 * `replayer` is the wfpsa_store_replay of the store's library, which may be another one than this. The batch must have
 * the column context_id. Threads: any. Blocks: only for the store's lock. Fails: as
 * wfpsa_store_replay; *failed counts from 0 within the rows. */
uint32_t wfpsa_replay(wfpsa_store_replayer *replayer, struct wfpsa_store *store, const struct wfpsa_columns *columns,
                      uint64_t start, int64_t step, uint64_t count, uint64_t *failed);

#endif
