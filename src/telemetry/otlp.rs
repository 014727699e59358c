//! Sends spans to a collector: OTLP over gRPC, in batches, on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind as Kind, Status as Ended, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};

use super::traces::{Span, SpanKind, TracesError};

/// Time for one batch, and for the last when the gateway stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gathers spans and sends them; what does not fit its queue is dropped.
pub(super) struct Collector {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
}

impl Collector {
    /// The collector at an address such as `http://127.0.0.1:4317`. It need not be there yet. To be called within the
    /// runtime that is to carry the connection.
    pub(super) fn at(endpoint: &str, node: &str) -> Result<Self, TracesError> {
        let unusable = |problem: String| TracesError::Endpoint { endpoint: endpoint.to_owned(), problem };
        let uri: http::Uri =
            endpoint.parse().map_err(|error: http::uri::InvalidUri| unusable(error.to_string()))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(unusable("it must begin with http:// and name a host".to_owned()));
        }
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(PATIENCE).build();
        let exporter = exporter.map_err(|error| unusable(error.to_string()))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let who = [
            KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_owned()),
        ];
        // Not the detectors: they tell of the machine and of the process what nobody asked for.
        processor.set_resource(&Resource::builder_empty().with_attributes(who).build());
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build();
        Ok(Self { processor: Arc::new(processor), scope })
    }

    /// Takes a span; never waits.
    pub(super) fn take(&self, span: &Span<'_>) {
        let trace = span.trace;
        let Some(id) = HEXLOWER.decode(trace.id().as_bytes()).ok().and_then(|id| id.try_into().ok()) else {
            return;
        };
        let micros = u64::try_from(span.began.as_microsecond()).unwrap_or_default();
        let start_time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        let words = span.words.iter().map(|(name, word)| KeyValue::new(*name, *word));
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", span.service),
            KeyValue::new("rpc.method", span.name),
            KeyValue::new("rpc.grpc.status_code", i64::from(span.code)),
        ];
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(id),
                SpanId::from_bytes(trace.span()),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: trace.parent().map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.kind == SpanKind::Server,
            span_kind: match span.kind {
                SpanKind::Server => Kind::Server,
                SpanKind::Client => Kind::Client,
            },
            name: span.name.into(),
            start_time,
            end_time: start_time + span.took,
            attributes: attributes.into_iter().chain(words).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if span.code == 0 { Ended::Unset } else { Ended::error("") },
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what is left, for a while.
    pub(super) async fn stop(&self) {
        let processor = Arc::clone(&self.processor);
        // It waits for its own thread.
        let stopped = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(PATIENCE)).await;
        if !matches!(stopped, Ok(Ok(()))) {
            tracing::warn!("the last spans were not taken by the collector");
        }
    }
}
