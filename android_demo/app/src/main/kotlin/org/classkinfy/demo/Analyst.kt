package org.classkinfy.demo

import android.content.Context
import android.media.Image
import android.os.Build
import android.os.Handler
import android.os.Looper
import java.io.IOException
import java.util.concurrent.Executors
import org.classkinfy.android.AssetBundle
import org.classkinfy.android.ImagePlanes
import org.classkinfy.android.Qualification
import org.classkinfy.bundle.BundleConstants
import org.classkinfy.core.Answer
import org.classkinfy.core.Bundle
import org.classkinfy.core.BundleException
import org.classkinfy.core.ClasskinfyException
import org.classkinfy.core.Listener
import org.classkinfy.core.Options
import org.classkinfy.core.Quality
import org.classkinfy.core.Services

/**
 * Opens the bundle in a way that passes its self-test on this phone, and answers, on a thread of its
 * own. Tells the main thread.
 */
internal class Analyst(private val context: Context) {
    /** Where opening has come to; the screens show it. */
    sealed class State {
        object Opening : State()

        object Testing : State()

        class Ready(val bundle: Bundle, val ways: List<Options>, val found: Qualification.Result) : State()

        class Unusable(val reason: String) : State()
    }

    /** What an answer's screen is told, on the main thread. */
    interface Audience : Listener {
        fun onAnswer(answer: Answer)

        fun onFailure(reason: String)
    }

    private val background = Executors.newSingleThreadExecutor()
    private val main = Handler(Looper.getMainLooper())
    private val preferences = Preferences(context)

    /** Of the main thread. */
    var state: State = State.Opening
        private set

    /** Of the main thread; is told each new state. */
    var watcher: ((State) -> Unit)? = null

    /** A photo on its way to the screen of its answer: too large for an intent. */
    var photo: ByteArray? = null

    init {
        open()
    }

    /** Run in another way from now on, if it passes its self-test. */
    fun run(way: Options) {
        preferences.wish = Qualification.describe(way)
        (state as? State.Ready)?.let { ready -> background.execute { ready.found.pipeline.close() } }
        become(State.Opening)
        open()
    }

    /** What quality rules say of a camera's frame. Takes the calling thread. */
    fun inspect(image: Image, rotation: Int, ready: State.Ready): Quality =
        ready.found.pipeline.inspect(ImagePlanes.of(image, rotation))

    /** Answer on a photo, each part as it is known. */
    fun analyse(ready: State.Ready, photo: () -> ByteArray, audience: Audience) = background.execute {
        try {
            val answer = ready.found.pipeline.analyse(photo(), Posted(audience))
            main.post { audience.onAnswer(answer) }
        } catch (error: ClasskinfyException) {
            main.post { audience.onFailure(error.message!!) }
        } catch (error: IOException) {
            main.post { audience.onFailure("the photo cannot be read: ${error.message}") }
        } catch (error: SecurityException) {
            main.post { audience.onFailure("the photo may not be read: ${error.message}") }
        }
    }

    private fun open() = background.execute {
        try {
            val folder = AssetBundle.install(context, BundleConstants.ASSET, BundleConstants.SHA256)
            val bundle = Bundle.open(folder)
            val threads = Ways.threads(Runtime.getRuntime().availableProcessors())
            val ways = Ways.of(bundle.manifest, Services.engines(), threads)
            if (ways.isEmpty()) throw BundleException("no runtime of this app reads the bundle")
            val wished = ways.firstOrNull { Qualification.describe(it) == preferences.wish } ?: ways.first()
            main.post { become(State.Testing) }
            val qualification = Qualification(preferences, version(context), Build.FINGERPRINT)
            val found = qualification.first(bundle, Ways.inTurn(ways, wished))
            found.pipeline.load()
            main.post { become(State.Ready(bundle, ways, found)) }
        } catch (error: ClasskinfyException) {
            main.post { become(State.Unusable(error.message!!)) }
        }
    }

    private fun become(next: State) {
        state = next
        watcher?.invoke(next)
    }

    private inner class Posted(private val audience: Audience) : Listener {
        override fun onPreliminary(
            quality: Map<String, Float>, reasons: List<String>, preliminary: Map<String, Float>?,
        ) {
            main.post { audience.onPreliminary(quality, reasons, preliminary) }
        }

        override fun onDiagnosis(diagnosis: String?, confidence: Float, probabilities: Map<String, Float>) {
            main.post { audience.onDiagnosis(diagnosis, confidence, probabilities) }
        }

        override fun onSeverity(severity: String, probabilities: Map<String, Float>) {
            main.post { audience.onSeverity(severity, probabilities) }
        }
    }

    companion object {
        /** The app's version: its name, and the build's number. */
        fun version(context: Context): String {
            val info = context.packageManager.getPackageInfo(context.packageName, 0)
            return "${info.versionName} (${info.versionCode})"
        }
    }
}
