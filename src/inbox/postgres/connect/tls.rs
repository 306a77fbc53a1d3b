//! TLS as the URL asks for it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::inbox::settings::Encryption;

pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Tls {
    pub(super) fn new(encryption: &Encryption) -> Result<Self, String> {
        let crypto = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match encryption {
            Encryption::Disable => return Ok(Self::Off),
            Encryption::Require => Arc::new(AcceptAnyCertificate(crypto.clone())),
            Encryption::VerifyFull(None) => Arc::new(Verifier::new(crypto.clone()).map_err(text)?),
            Encryption::VerifyFull(Some(certificates)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(text)?;
                }
                WebPkiServerVerifier::builder_with_provider(roots.into(), crypto.clone())
                    .build()
                    .map_err(text)?
            }
        };
        let mut config = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self::On(MakeRustlsConnect::new(config)))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("TLS cannot be set up: {error}")
}

/// Accepts every certificate, as `sslmode=require` says. The server must still have its key.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
