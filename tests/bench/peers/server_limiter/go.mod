module server_limiter

go 1.23

require github.com/sethvargo/go-limiter v0.7.1
