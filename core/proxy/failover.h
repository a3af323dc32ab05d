/* failover.h: an upstream with several URLs, one of which does not serve: what its requests tell of it (http/standing.h), and where a request goes instead.
 *
 * A request that got no connection goes to the next URL, whatever its method, since nothing of it was sent. One that failed behind that, or was answered 502, 503 or 504, goes to
 * another URL once, if it may be sent twice (RFC 9110 section 9.2.2), its body is still here, nothing of a reply has gone on, and there is another URL that serves. All for the exchange's own
 * files; an upstream with one URL costs a comparison. */
#ifndef JETON_PROXY_FAILOVER_H
#define JETON_PROXY_FAILOVER_H

#include <stdbool.h>

struct exchange;

/* The call failed with `status`, in call->phase. True: the exchange goes on to another URL, and exchange_resume was called. */
bool failover_after_error(struct exchange *ex, int status);
/* The final head is there. True: it is not for the client; the exchange has another URL now. */
bool failover_instead(struct exchange *ex);
/* The reply has come to its end. */
void failover_served(struct exchange *ex);
/* Client or deadline end the exchange: a server that was silent for long has failed it. */
void failover_given_up(struct exchange *ex);

#endif
