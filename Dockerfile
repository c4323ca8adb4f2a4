# One of the examples: docker build --build-arg EXAMPLE=gateway . It is at the top because the examples' module takes the library from there.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY examples/go.mod examples/go.sum examples/
RUN go -C examples mod download
COPY . .
ARG EXAMPLE=tickets
RUN CGO_ENABLED=0 go -C examples build -trimpath -o /example ./${EXAMPLE}

FROM scratch
# For rediss:// and the like.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /example /example
USER 65534:65534
EXPOSE 8080
ENTRYPOINT ["/example"]
