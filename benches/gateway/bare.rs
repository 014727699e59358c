//! The bare servers: tonic over a plain mTLS acceptor, and nothing else. They are what the gateway is measured against,
//! so nothing here may be slower than a straightforward tonic server needs to be.

use std::convert::Infallible;
use std::io::{IoSlice, Result as IoResult};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::Result;
use legal_aid_gateway::grpc::proto::registry_service_server::{RegistryService, RegistryServiceServer};
use legal_aid_gateway::grpc::proto::verification_service_client::VerificationServiceClient;
use legal_aid_gateway::grpc::proto::verification_service_server::{
    VerificationService, VerificationServiceServer,
};
use legal_aid_gateway::grpc::proto::{
    BatchVerifyRequest, BatchVerifyResponse, GetVerificationRequest, GetVerificationResponse,
    LowIncomeAnswer, QueryLowIncomeRequest, QueryLowIncomeResponse, QueryPovertyHouseholdRequest,
    QueryPovertyHouseholdResponse, SubmitExchangeRequest, SubmitExchangeResponse, VerifyLowIncomeRequest,
    VerifyLowIncomeResponse, VerifyPovertyHouseholdRequest, VerifyPovertyHouseholdResponse,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::message;
use crate::parties::{Certificates, Party, endpoint};
use crate::processes::announce;

/// Answers every question at once.
pub(crate) async fn echo(certificates: &Certificates) -> Result<()> {
    let service = Echo { answer: message::answer_to_centre()? };
    let routes = Routes::new(VerificationServiceServer::new(service))
        .add_service(EchoSubmission { answer: message::submitted() });
    serve(certificates, Party::Registry, routes).await
}

/// Passes every question on over one connection.
pub(crate) async fn proxy(certificates: &Certificates, upstream: SocketAddr) -> Result<()> {
    let channel = certificates.dialler(Party::Gateway)?.channel(&endpoint(upstream, Party::Registry)?)?;
    let service = Proxy { upstream: VerificationServiceClient::new(channel) };
    serve(certificates, Party::Gateway, Routes::new(VerificationServiceServer::new(service))).await
}

/// Answers the gateway at once, about the person it asked about.
pub(crate) async fn registry(certificates: &Certificates) -> Result<()> {
    let service = Registry { answer: message::answer()? };
    serve(certificates, Party::Registry, Routes::new(RegistryServiceServer::new(service))).await
}

struct Echo {
    answer: VerifyLowIncomeResponse,
}

#[tonic::async_trait]
impl VerificationService for Echo {
    async fn verify_low_income(
        &self,
        _request: Request<VerifyLowIncomeRequest>,
    ) -> Result<Response<VerifyLowIncomeResponse>, Status> {
        Ok(Response::new(self.answer.clone()))
    }

    async fn verify_poverty_household(
        &self,
        _: Request<VerifyPovertyHouseholdRequest>,
    ) -> Result<Response<VerifyPovertyHouseholdResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    type BatchVerifyStream = ReceiverStream<Result<BatchVerifyResponse, Status>>;

    async fn batch_verify(
        &self,
        _: Request<Streaming<BatchVerifyRequest>>,
    ) -> Result<Response<Self::BatchVerifyStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_verification(
        &self,
        _: Request<GetVerificationRequest>,
    ) -> Result<Response<GetVerificationResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

/// `SubmitExchange` alone of its service, as generated code would serve it.
#[derive(Clone)]
struct EchoSubmission {
    answer: SubmitExchangeResponse,
}

impl NamedService for EchoSubmission {
    const NAME: &'static str = "legalaid.exchange.v1.ExchangeService";
}

impl tower::Service<http::Request<Body>> for EchoSubmission {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(service, request).await) })
    }
}

impl UnaryService<SubmitExchangeRequest> for EchoSubmission {
    type Response = SubmitExchangeResponse;
    type Future = std::future::Ready<Result<Response<SubmitExchangeResponse>, Status>>;

    fn call(&mut self, _: Request<SubmitExchangeRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.answer.clone())))
    }
}

struct Proxy {
    upstream: VerificationServiceClient<Channel>,
}

#[tonic::async_trait]
impl VerificationService for Proxy {
    async fn verify_low_income(
        &self,
        request: Request<VerifyLowIncomeRequest>,
    ) -> Result<Response<VerifyLowIncomeResponse>, Status> {
        let answer = self.upstream.clone().verify_low_income(request.into_inner()).await?;
        Ok(Response::new(answer.into_inner()))
    }

    async fn verify_poverty_household(
        &self,
        _: Request<VerifyPovertyHouseholdRequest>,
    ) -> Result<Response<VerifyPovertyHouseholdResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    type BatchVerifyStream = ReceiverStream<Result<BatchVerifyResponse, Status>>;

    async fn batch_verify(
        &self,
        _: Request<Streaming<BatchVerifyRequest>>,
    ) -> Result<Response<Self::BatchVerifyStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_verification(
        &self,
        _: Request<GetVerificationRequest>,
    ) -> Result<Response<GetVerificationResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

struct Registry {
    answer: LowIncomeAnswer,
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn query_low_income(
        &self,
        request: Request<QueryLowIncomeRequest>,
    ) -> Result<Response<QueryLowIncomeResponse>, Status> {
        message::answer_to_gateway(&self.answer, request.get_ref())
            .map(Response::new)
            .ok_or_else(|| Status::invalid_argument("the query names no subject"))
    }

    async fn query_poverty_household(
        &self,
        _: Request<QueryPovertyHouseholdRequest>,
    ) -> Result<Response<QueryPovertyHouseholdResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

pub(crate) async fn serve(certificates: &Certificates, party: Party, routes: Routes) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(mutual_tls(certificates, party)?));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(listener.local_addr()?);
    let (shaken, incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, shaken) = (acceptor.clone(), shaken.clone());
            tokio::spawn(async move {
                // Without it, Nagle's algorithm would hold small answers back and flatter the gateway.
                let connection = match tcp.set_nodelay(true) {
                    Ok(()) => acceptor.accept(tcp).await.map(Encrypted),
                    Err(error) => Err(error),
                };
                match connection {
                    Ok(connection) => _ = shaken.send(Ok::<_, std::io::Error>(connection)).await,
                    Err(error) => eprintln!("{}: no handshake: {error}", party.name()),
                }
            });
        }
    });
    Ok(Server::builder().add_routes(routes).serve_with_incoming(ReceiverStream::new(incoming)).await?)
}

fn mutual_tls(certificates: &Certificates, party: Party) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.authority())?)?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain = vec![CertificateDer::from_pem_file(certificates.certificate(party))?];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(certificates.key(party))?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// tonic asks a connection who is at its other end; its own TLS support, which would answer, is not compiled in.
struct Encrypted(TlsStream<TcpStream>);

impl Connected for Encrypted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<IoResult<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    // Left to the default, a frame's header and its body would go out one by one.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<IoResult<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<IoResult<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
