//! grpc.health.v1, as far as one check needs it (grpc-proto, grpc/health/v1/health.proto).

/// Asks for the state of a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HealthCheckRequest {
    /// The service; empty for the whole server.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// The state of the service.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HealthCheckResponse {
    /// One of the ServingStatus numbers.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

/// The ServingStatus SERVING.
pub const SERVING: i32 = 1;
