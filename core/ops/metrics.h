/* metrics.h: GET /metrics: the facts of status, as Prometheus and OpenTelemetry collectors read them. */
#ifndef JETON_OPS_METRICS_H
#define JETON_OPS_METRICS_H

#include "ops/status.h"

void metrics_text(const struct status_view *v, struct buf *out);

#endif
