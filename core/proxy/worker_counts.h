/* worker_counts.h: the counters of a worker, each in one line: the field, whether status and metrics show a gauge (how many now) or a counter (how many so far),
 * and what it counts. The struct that control reads, the atomics that the worker writes (worker_state.h), the sum over all workers, /status and /metrics follow
 * from it. A new one is a line here and a COUNT(worker, field, by) where it happens; docs/operations.md lists the metrics. */
#ifndef JETON_PROXY_WORKER_COUNTS_H
#define JETON_PROXY_WORKER_COUNTS_H

#include <stdint.h>

#define WORKER_COUNTS(XX)                                                                              \
  XX(connections, gauge, "Client connections open now.")                                               \
  XX(connections_h2, gauge, "Client connections open now that speak HTTP/2.")                          \
  XX(streams, gauge, "Requests of HTTP/2 and tunnels in it under way now.")                            \
  XX(accepted, counter, "Client connections accepted.")                                                \
  XX(requests, counter, "Requests begun.")                                                             \
  XX(requests_h2, counter, "Requests begun by HTTP/2.")                                                \
  XX(upstream_errors, counter, "Upstream calls that failed.")                                          \
  XX(client_aborts, counter, "Exchanges whose client left before the end.")                            \
  XX(replies_cut, counter, "Replies that broke off here or at their upstream.")                        \
  XX(refused, counter, "Requests that were not HTTP as jeton reads it.")                               \
  XX(ambiguous, counter, "Messages that two parsers read differently, and that were refused.")         \
  XX(replays, counter, "Requests sent again after a refused token.")                                   \
  XX(retries, counter, "Requests sent again by req:retry.")                                            \
  XX(failovers, counter, "Requests sent to another URL of their upstream after a failure.")            \
  XX(token_waits, counter, "Times that a request waited for a token.")                                 \
  XX(token_timeouts, counter, "Times that it waited in vain.")                                         \
  XX(script_errors, counter, "Hooks that raised, ran too long or wanted too much memory.")             \
  XX(tunnels, gauge, "Upgraded connections and tunnels open now.")                                     \
  XX(bytes_in, counter, "Bytes of request bodies, and of tunnels, read.")                              \
  XX(bytes_out, counter, "Bytes written to clients.")                                                  \
  XX(upstream_idle, gauge, "Upstream connections kept and idle.")                                      \
  XX(upstream_leased, gauge, "Upstream connections in use.")                                           \
  XX(upstream_dialed, counter, "Upstream connections made.")                                           \
  XX(upstream_h2, gauge, "Upstream connections open now that speak HTTP/2.")                           \
  XX(vm_bytes, gauge, "Memory of the worker's Lua VM.")                                                \
  XX(shed, counter, "Idle client connections closed to make room for new ones.")                       \
  XX(over_address_limit, counter, "Client connections turned away by limits.connections_per_address.") \
  XX(handshakes_failed, counter, "TLS handshakes of clients that came to nothing.")

/* What they are at one moment. Apart from the list: replies by the hundreds of their status, [0] for one that is none. */
struct worker_counts {
#define XX(field, kind, help) uint64_t field;
  WORKER_COUNTS(XX)
#undef XX
  uint64_t responses[6];
};

#endif
