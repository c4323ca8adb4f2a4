package wrap

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
)

func TestHandler(t *testing.T) {
	recorder := httptest.NewRecorder()
	Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		w.(http.Flusher).Flush()
		if count := w.(*writer).count; count != 5 {
			t.Errorf("%d bytes are counted", count)
		}
		if w.(interface{ Unwrap() http.ResponseWriter }).Unwrap() != recorder {
			t.Error("another writer is inside")
		}
	})).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if recorder.Body.String() != "hello" || !recorder.Flushed {
		t.Errorf("%q, flushed: %v", recorder.Body, recorder.Flushed)
	}
}

func TestGin(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(func(c *gin.Context) {
		inner := c.Writer
		Gin(c)
		if c.Writer == inner || c.Writer.(*ginWriter).Unwrap() != http.ResponseWriter(inner) {
			t.Error("another writer is inside")
		}
	})
	router.GET("/", func(c *gin.Context) {
		c.String(http.StatusOK, "hello")
		_, _ = c.Writer.WriteString(" there")
		c.Writer.Flush()
		if count := c.Writer.(*ginWriter).count; count != 11 {
			t.Errorf("%d bytes are counted", count)
		}
	})
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if recorder.Body.String() != "hello there" || !recorder.Flushed {
		t.Errorf("%q, flushed: %v", recorder.Body, recorder.Flushed)
	}
}
