//! TLS: what is offered to receivers, and in which words a failure is told.
//!
//! Offered are TLS 1.3 and 1.2, the latter with forward secrecy and authenticated encryption only,
//! and HTTP/1.1 alone. Certificates are checked against the system's store.

use rustls::client::{Resumption, WantsClientCert};
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, Error, PeerIncompatible,
    WantsVerifier,
};
use rustls_platform_verifier::BuilderVerifierExt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

/// Sessions that can be resumed, eight for each of 512 receivers: connections are short-lived, and
/// resuming spares both ends the costly half of a handshake.
const SESSIONS: usize = 8 * 512;

/// A connector that trusts the system's certificate store.
///
/// # Errors
/// When the system has no certificate store.
pub(super) fn connector() -> io::Result<TlsConnector> {
    let verified = builder()?.with_platform_verifier();
    Ok(offering_http_1(verified.map_err(io::Error::other)?))
}

fn builder() -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

fn offering_http_1(verified: ConfigBuilder<ClientConfig, WantsClientCert>) -> TlsConnector {
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Arc::new(config).into()
}

/// Begins TLS with `host`.
///
/// # Errors
/// What the receiver has to change is said where it is known.
pub(super) async fn begin(
    connector: &TlsConnector,
    host: &Host<String>,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
        Host::Ipv4(address) => IpAddr::from(*address).into(),
        Host::Ipv6(address) => IpAddr::from(*address).into(),
    };
    connector.connect(name, stream).await.map_err(in_words)
}

/// The error with what the receiver has to change, where that is known.
fn in_words(error: io::Error) -> io::Error {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref());
    let text = match (refusal.map(advice), error.kind()) {
        (Some(Some(Advice::Whole(text))), _) => text.to_owned(),
        (Some(Some(Advice::Before(text))), _) => format!("{text} ({error})"),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            format!("{CLOSED} ({error})")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

/// What is said of a refusal.
enum Advice {
    /// The text, and the refusal in the words of the library.
    Before(&'static str),
    /// The text alone: the library shows bytes.
    Whole(&'static str),
}

const CLOSED: &str = "the receiver closed the connection in the TLS handshake, as some do that \
                      offer neither TLS 1.3 nor TLS 1.2";
const VERSION: &str = "the receiver offers neither TLS 1.3 nor TLS 1.2";
const CIPHERS: &str = "the receiver offers no cipher suite of TLS 1.2 that is considered safe: it \
                       needs ECDHE with AES-GCM or ChaCha20-Poly1305, or TLS 1.3";
const ALGORITHM: &str = "the receiver's certificate is signed with an algorithm that is not \
                         considered safe, such as SHA-1: it needs SHA-256 or better";
const KEY: &str = "the receiver's certificate has a key that is not considered safe, or a \
                   signature that does not fit: it needs RSA of at least 2,048 bits, or ECDSA";
const HTTP: &str = "the receiver does not speak HTTP/1.1";

/// What the receiver has to change.
fn advice(error: &Error) -> Option<Advice> {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    use PeerIncompatible as Incompatible;
    Some(match error {
        Error::AlertReceived(Alert::ProtocolVersion)
        | Error::PeerIncompatible(
            Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Advice::Before(VERSION),
        Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | Error::PeerIncompatible(
            Incompatible::NoCipherSuitesInCommon | Incompatible::NoKxGroupsInCommon,
        ) => Advice::Before(CIPHERS),
        Error::AlertReceived(Alert::NoApplicationProtocol) => Advice::Before(HTTP),
        Error::InvalidCertificate(
            Certificate::UnsupportedSignatureAlgorithmContext { .. }
            | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => Advice::Whole(ALGORITHM),
        Error::InvalidCertificate(Certificate::BadSignature) => Advice::Before(KEY),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{RootCertStore, ServerConfig};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio_rustls::TlsAcceptor;

    /// What both ends agree on with a server of `localhost` that offers these protocols.
    async fn agreed(protocols: &[&[u8]]) -> io::Result<Option<Vec<u8>>> {
        Ok(shaken("localhost", protocols).await?.0)
    }

    /// The same by this name, and the name that the server was told.
    async fn shaken(
        name: &str,
        protocols: &[&[u8]],
    ) -> io::Result<(Option<Vec<u8>>, Option<String>)> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let accepted = TlsAcceptor::from(Arc::new(server)).accept(stream).await;
            let name = accepted.as_ref().ok();
            let name = name.and_then(|stream| stream.get_ref().1.server_name());
            tell.send(name.map(str::to_owned)).ok();
            std::future::pending::<()>().await;
            drop(accepted);
        });
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = offering_http_1(builder().unwrap().with_root_certificates(roots));
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = begin(&client, &Host::Domain(name.into()), stream).await?;
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((protocol, told.await.unwrap()))
    }

    #[tokio::test]
    async fn the_dot_at_the_end_of_a_name_is_neither_sent_nor_compared() {
        let (_, told) = shaken("localhost.", &[]).await.unwrap();
        assert_eq!(told.as_deref(), Some("localhost"));
    }

    #[tokio::test]
    async fn http_1_is_agreed_on_with_whoever_speaks_it() {
        let http_1 = Some(b"http/1.1".to_vec());
        assert_eq!(agreed(&[b"h2", b"http/1.1"]).await.unwrap(), http_1);
        assert_eq!(agreed(&[b"http/1.1"]).await.unwrap(), http_1);
        assert_eq!(agreed(&[]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn who_speaks_only_http_2_is_told_so() {
        let error = agreed(&[b"h2"]).await.unwrap_err();
        assert!(error.to_string().starts_with(HTTP), "{error}");
    }

    #[tokio::test]
    async fn an_alert_of_an_old_receiver_is_told_in_words() {
        for (alert, advice) in [(40, CIPHERS), (70, VERSION)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                // A fatal alert instead of an answer to the greeting.
                let refusal = [21, 3, 3, 0, 2, 2, alert];
                stream.write_all(&refusal).await.unwrap();
                std::future::pending::<()>().await;
            });
            let client = builder()
                .unwrap()
                .with_root_certificates(RootCertStore::empty());
            let stream = TcpStream::connect(address).await.unwrap();
            let host = Host::Domain("localhost".into());
            let error = begin(&offering_http_1(client), &host, stream).await;
            let told = error.unwrap_err().to_string();
            assert!(told.starts_with(advice), "{told}");
        }
    }

    #[test]
    fn what_the_receiver_has_to_change_is_said() {
        let alert = |alert| Error::AlertReceived(alert);
        let table = [
            (alert(AlertDescription::ProtocolVersion), Some(VERSION)),
            (alert(AlertDescription::HandshakeFailure), Some(CIPHERS)),
            (
                PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
                Some(VERSION),
            ),
            (
                PeerIncompatible::NoCipherSuitesInCommon.into(),
                Some(CIPHERS),
            ),
            (CertificateError::BadSignature.into(), Some(KEY)),
            (CertificateError::UnknownIssuer.into(), None),
            (alert(AlertDescription::InternalError), None),
        ];
        for (error, advice) in table {
            let text = error.to_string();
            let told = in_words(io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
            match advice {
                Some(advice) => assert_eq!(told, format!("{advice} ({text})")),
                None => assert_eq!(told, text),
            }
        }
        let weak = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: Vec::new(),
            supported_algorithms: Vec::new(),
        };
        let weak = in_words(io::Error::other(Error::from(weak))).to_string();
        assert_eq!(weak, ALGORITHM);
        let closed = in_words(io::ErrorKind::UnexpectedEof.into()).to_string();
        assert!(closed.starts_with(CLOSED), "{closed}");
    }
}
