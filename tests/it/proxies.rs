//! A proxy before PostgreSQL that refuses the start-up parameter `options` (R19).

use postrider_store::Backend;
use postrider_tests::{Postrider, Relay, TestDatabase};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What both commands have to say.
const REMEDY: &str = "connect to PostgreSQL itself";

#[tokio::test]
async fn on_postgres_a_proxy_that_refuses_options_is_named_with_the_remedy() {
    let database = TestDatabase::migrated(Backend::Postgres).await;
    let relay = Relay::to(database.url()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let url = relay.url().replace(&relay.address(), &address);
    let server = relay.address();
    let _proxy = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move { pass_on(client, &server).await.ok() });
        }
    }));

    let postrider = Postrider::on(&TestDatabase::elsewhere(&url));
    let checked = postrider.run(&["check"]).await;
    assert_eq!(checked.status.code(), Some(1), "{checked}");
    assert!(checked.stdout.contains(REMEDY), "{checked}");
    assert!(checked.stdout.contains("`options`"), "{checked}");

    let served = postrider.run(&["serve"]).await;
    let told = served.refused();
    assert!(told.contains(REMEDY), "{told}");
    assert_eq!(relay.made(), 0, "every connection asks for options");
}

/// Refuses a connection that asks for options, and passes every other on to the server.
async fn pass_on(mut client: TcpStream, server: &str) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut rest = vec![0; length as usize - 4];
    client.read_exact(&mut rest).await?;
    if rest.windows(8).any(|name| name == b"options\0") {
        let fields = b"SFATAL\0VFATAL\0C0A000\0MFeature not supported\0\0";
        client.write_u8(b'E').await?;
        client.write_u32(fields.len() as u32 + 4).await?;
        client.write_all(fields).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(server).await?;
    server.write_u32(length).await?;
    server.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
