# The program alone, without a system around it. Builds with BuildKit and with the older builder, for amd64 and arm64.

FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
# Linked statically, because the image has no C library. With the target named, the flag spares build scripts and macros.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin throttlescope --target "$target" \
 && mkdir -p /image/var/lib/throttlescope \
 && cp "target/$target/release/throttlescope" /image/throttlescope

FROM scratch
# The store; nothing else is ever written, so the root may be read-only.
COPY --from=build --chown=65534:65534 /image/var/lib/throttlescope /var/lib/throttlescope
COPY --from=build /image/throttlescope /throttlescope
# Reachable from other containers and through published ports; `[::]:10474` where the network is IPv6 alone.
ENV XDG_STATE_HOME=/var/lib THROTTLESCOPE_WEB_LISTEN=0.0.0.0:10474
USER 65534:65534
VOLUME /var/lib/throttlescope
EXPOSE 10474
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/throttlescope", "health"]
ENTRYPOINT ["/throttlescope"]
CMD ["run"]
