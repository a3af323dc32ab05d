/* metrics.h: GET /metrics: what status tells, as Prometheus and OpenTelemetry collectors read it. */
#ifndef JETON_OPS_METRICS_H
#define JETON_OPS_METRICS_H

#include "ops/status.h"

void metrics_text(const struct status_view *v, struct buf *out);

#endif
