package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.podman.io/image/v5/types"

	"github.com/podbox/podbox/internal/fault"
)

// Errors that callers may match with errors.Is.
var (
	ErrInvalid = fault.ErrInvalid
	// ErrNotFound is matched when a registry does not have the image.
	ErrNotFound = errors.New("no such image at the registry")
	// ErrDenied is matched when a registry wants credentials, or others.
	ErrDenied = errors.New("access denied")
	// ErrBlocked is matched when the configuration says that a registry is not to be used.
	ErrBlocked = errors.New("registry is blocked by the configuration")
	// ErrPlatform is matched when there is no image for the platform.
	ErrPlatform = errors.New("no image for this platform")
	// ErrPlainHTTP is matched when a registry does not speak TLS.
	ErrPlainHTTP = errors.New("the registry speaks plain HTTP, which it is not to")
	// ErrUntrusted is matched when a registry's certificate cannot be verified.
	ErrUntrusted = errors.New("the registry's certificate cannot be verified")
	// ErrTooLarge is matched when a manifest or a configuration is larger than any is.
	ErrTooLarge = errors.New("too large")
	// ErrStalled is matched when what is to come does not, or too slowly.
	ErrStalled = errors.New("too slow")
)

// Options say how images are fetched. The zero value does as the files of the system say.
type Options struct {
	// Platform is the one wanted: OS/ARCHITECTURE[/VARIANT]. Empty: the host's.
	Platform string
	// Insecure allows plain HTTP and certificates that cannot be verified, or does not
	// whatever the configuration says. Nil: as the configuration says.
	Insecure *bool
	// Credentials are tried first, in turn, as far as they are for the registry.
	Credentials []Credentials
	// AuthFile is a file of credentials, instead of those of the user. It must exist.
	AuthFile string
	// CertDir is a directory of certificates, instead of those of the system.
	CertDir string
	// Config is a registries.conf, instead of those of the system.
	Config string
	// UserAgent is what registries are told who asks. Empty: podbox.
	UserAgent string

	// Backoff is the pause before what failed is tried again, doubled each time.
	// 0: half a second.
	Backoff time.Duration
	// Tries is how often anything is tried. 0: 5.
	Tries int
	// Patience is how long to wait for the beginning of an answer, and over which it
	// must come at a kibibyte a second. 0: 30 s.
	Patience time.Duration
}

func (o Options) withDefaults() Options {
	if o.UserAgent == "" {
		o.UserAgent = "podbox"
	}
	if o.Backoff == 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	return o
}

// system returns the options of the libraries that read files of the system.
func (o *Options) system() *types.SystemContext {
	return &types.SystemContext{SystemRegistriesConfPath: o.Config, AuthFilePath: o.AuthFile}
}

// A Remote is an image at a registry.
type Remote struct {
	// Reference is what was asked for, in full.
	Reference Reference
	// From is where it was found: Reference, or what a mirror calls it.
	From string
	// Digest is that of the image's manifest; Index is that of the list of images, one
	// for each platform, which it was chosen from, or empty.
	Digest, Index string
	// Image has its contents, which are fetched when they are asked for.
	Image v1.Image

	client *client
}

// Close drops the connections to the registry.
func (r *Remote) Close() error {
	r.client.base.CloseIdleConnections()
	return nil
}

// Resolve asks the registry, or its mirrors in turn, for an image. ctx ends what is
// fetched afterwards, too.
func Resolve(ctx context.Context, ref Reference, opts Options) (*Remote, error) {
	sources, err := ref.sources(opts.system())
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	var errs []error
	for _, s := range sources {
		r, err := s.resolve(ctx, ref, opts.withDefaults(), "")
		if err == nil {
			return r, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("image %s: %w", ref, joined(errs))
}

// joined returns several errors as one, in one line; the last one comes first.
func joined(errs []error) error {
	text := make([]string, 0, len(errs))
	for i := len(errs) - 1; i >= 0; i-- {
		text = append(text, plain(errs[i].Error()))
	}
	return &several{strings.Join(text, "; "), errs}
}

// maxText is how much is told of an error, in bytes.
const maxText = 1 << 10

// plain returns what may be shown of an error: a registry writes what it wants into its
// answers, such as what a terminal takes for commands.
func plain(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return !unicode.IsPrint(r) }), " ")
}

type several struct {
	text string
	errs []error
}

func (s *several) Error() string   { return s.text }
func (s *several) Unwrap() []error { return s.errs }

// resolve asks one source. An image whose manifest has the digest known is not looked
// at: whoever asks has it.
func (s *source) resolve(ctx context.Context, ref Reference, opts Options, known string) (*Remote, error) {
	r, err := s.ask(ctx, opts, known)
	if err != nil && s.mirror {
		return nil, fmt.Errorf("mirror %s: %w", s.ref, err)
	}
	if err != nil {
		return nil, err
	}
	r.Reference = ref
	return r, nil
}

func (s *source) ask(ctx context.Context, opts Options, known string) (*Remote, error) {
	c, err := s.client(opts)
	if err != nil {
		return nil, err
	}
	auths, err := s.authenticators(opts)
	if err != nil {
		return nil, err
	}
	for i, auth := range auths {
		r, ferr := c.find(ctx, s, auth, opts, known)
		if ferr == nil {
			return r, nil
		}
		err = c.explain(ferr)
		if i+1 < len(auths) && errors.Is(err, ErrDenied) {
			continue
		}
		break
	}
	c.base.CloseIdleConnections()
	return nil, err
}

func (c *client) find(ctx context.Context, s *source, auth authn.Authenticator, opts Options, known string) (*Remote, error) {
	asked, err := s.name(c.insecure)
	if err != nil {
		return nil, err
	}
	puller, err := remote.NewPuller(
		remote.WithTransport(c), remote.WithAuth(auth), remote.WithContext(ctx),
		// c does that.
		remote.WithRetryPredicate(func(error) bool { return false }), remote.WithRetryStatusCodes(),
	)
	if err != nil {
		return nil, err
	}
	desc, err := puller.Get(ctx, asked)
	if err != nil {
		return nil, err
	}
	r := &Remote{From: s.ref.String(), client: c}
	wanted, err := wantedPlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	if desc.MediaType.IsIndex() {
		r.Index = desc.Digest.String()
		digest, err := choose(desc, wanted)
		if err != nil {
			return nil, err
		}
		if desc, err = puller.Get(ctx, asked.Context().Digest(digest.String())); err != nil {
			return nil, err
		}
		if desc.MediaType.IsIndex() {
			return nil, fmt.Errorf("manifest %s: %w: a list of images in a list", digest, ErrInvalid)
		}
	}
	r.Digest = desc.Digest.String()
	if r.Image, err = desc.Image(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if r.Digest == known {
		return r, nil
	}
	return r, check(r.Image, wanted, r.Index != "")
}

// explain says in our words what is known of a failure.
func (c *client) explain(err error) error {
	if errors.Is(err, errNotTried) {
		// Nor does anybody want to know that it was not.
		c.mu.Lock()
		err = c.failed
		c.mu.Unlock()
	}
	var (
		answer *transport.Error
		cert   *tls.CertificateVerificationError
		plain  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &plain):
		return fmt.Errorf("%w: %w", ErrPlainHTTP, err)
	case errors.As(err, &cert):
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return err
}

// name returns the reference in the words of the library that fetches it.
func (s *source) name(insecure bool) (name.Reference, error) {
	opts := []name.Option{name.WeakValidation}
	if insecure {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(s.ref.String(), opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return ref, nil
}
