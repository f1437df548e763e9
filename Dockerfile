# The program alone: one static file, no shell, no package manager, an ordinary
# user. It writes nothing; run it with a read-only root (see docker-compose.yml).
# The private Postgres is not in here: set DATABASE_URL.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=container
RUN CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.release=${VERSION}" -o /out/dialer ./cmd/dialer

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/dialer /dialer
USER 65532:65532
ENTRYPOINT ["/dialer"]
CMD ["serve"]
