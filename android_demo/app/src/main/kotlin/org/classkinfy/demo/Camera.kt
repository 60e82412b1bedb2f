package org.classkinfy.demo

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.graphics.Matrix
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureFailure
import android.hardware.camera2.CaptureRequest
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.os.SystemClock
import android.util.Size
import android.view.Surface
import android.view.TextureView
import android.view.View
import org.classkinfy.android.Rotation
import org.classkinfy.core.Capture

/**
 * The camera at the back: a preview, frames for hints, and photos. Started once and stopped once.
 *
 * All of its state belongs to its own thread. Frames are read, and their reader is closed, on another
 * one, for a frame's memory goes with its reader.
 */
internal class Camera(
    context: Context,
    private val view: TextureView,
    private val guide: GuideView,
    private val capture: Capture,
    private val events: Events,
) {
    interface Events {
        /** On a thread of frames, which waits; the image is closed afterwards. */
        fun onFrame(image: Image, rotation: Int)

        /** A photo can be taken. On the camera's thread. */
        fun onReady()

        /** On the camera's thread. */
        fun onPhoto(jpeg: ByteArray)

        /** On any thread. */
        fun onCameraFailure(reason: String)
    }

    private val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private val frameThread = HandlerThread("frames").apply { start() }
    private val frameHandler = Handler(frameThread.looper)
    private var stopped = false
    private var opening = false
    private var device: CameraDevice? = null
    private var session: CameraCaptureSession? = null
    private var frames: ImageReader? = null
    private var photos: ImageReader? = null
    private var rotation = 0
    private var lastFrameMs = 0L

    @Volatile
    private var placement: Placement? = null
    private val relayout = View.OnLayoutChangeListener { _, _, _, _, _, _, _, _, _ -> place() }

    /** @param display degrees that the display is turned by */
    fun start(display: Int) {
        view.addOnLayoutChangeListener(relayout)
        if (view.isAvailable) {
            handler.post { guarded { open(display) } }
            return
        }
        view.surfaceTextureListener = object : TextureView.SurfaceTextureListener {
            override fun onSurfaceTextureAvailable(surface: SurfaceTexture, width: Int, height: Int) {
                handler.post { guarded { open(display) } }
            }

            override fun onSurfaceTextureSizeChanged(surface: SurfaceTexture, width: Int, height: Int) = Unit

            override fun onSurfaceTextureDestroyed(surface: SurfaceTexture) = true

            override fun onSurfaceTextureUpdated(surface: SurfaceTexture) = Unit
        }
    }

    fun shoot() {
        handler.post { guarded { takePhoto() } }
    }

    fun stop() {
        view.surfaceTextureListener = null
        view.removeOnLayoutChangeListener(relayout)
        handler.post {
            stopped = true
            device?.close()
            photos?.close()
            frameHandler.post {
                frames?.close()
                frameThread.quit()
            }
            // What is being opened is closed when it is open, on this thread.
            if (device == null && !opening) thread.quit()
        }
    }

    private fun guarded(step: () -> Unit) {
        try {
            if (!stopped) step()
        } catch (error: CameraAccessException) {
            fail(error)
        } catch (error: IllegalStateException) {
            fail(error) // it was taken away between two calls
        } catch (error: IllegalArgumentException) {
            fail(error) // it does not do what it says
        } catch (error: SecurityException) {
            fail(error) // permission was withdrawn
        }
    }

    private fun fail(error: Exception) = events.onCameraFailure(error.message ?: error.toString())

    @SuppressLint("MissingPermission") // asked for by the activity, and its loss is caught
    private fun open(display: Int) {
        val id = back() ?: return events.onCameraFailure("there is none")
        val characteristics = manager.getCameraCharacteristics(id)
        val front = characteristics[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_FRONT
        val sensor = characteristics[CameraCharacteristics.SENSOR_ORIENTATION]!!
        rotation = Rotation.of(sensor, display, front)
        val map = characteristics[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]!!
        fun sizes(of: Array<Size>?) = CameraSizes(of.orEmpty().map { CameraSizes.Dimensions(it.width, it.height) })
        val shown = sizes(map.getOutputSizes(SurfaceTexture::class.java)).ofFrames(PREVIEW_WIDTH, PREVIEW_HEIGHT)
        val frame = sizes(map.getOutputSizes(ImageFormat.YUV_420_888)).ofFrames(capture.width, capture.height)
        val photo = sizes(map.getOutputSizes(ImageFormat.JPEG)).ofPhotos(PHOTO_PIXELS)
        view.surfaceTexture!!.setDefaultBufferSize(shown.width, shown.height)
        placement = Placement(shown, sensor, display)
        view.post { place() }
        frames = ImageReader.newInstance(frame.width, frame.height, ImageFormat.YUV_420_888, 2)
            .apply { setOnImageAvailableListener(::onFrame, frameHandler) }
        photos = ImageReader.newInstance(photo.width, photo.height, ImageFormat.JPEG, 1)
            .apply { setOnImageAvailableListener(::onPhoto, handler) }
        manager.openCamera(id, Opened(), handler)
        opening = true // its callbacks come on this thread, later
    }

    private fun back(): String? {
        val ids = manager.cameraIdList
        val facing = { id: String -> manager.getCameraCharacteristics(id)[CameraCharacteristics.LENS_FACING] }
        return ids.firstOrNull { facing(it) == CameraCharacteristics.LENS_FACING_BACK } ?: ids.firstOrNull()
    }

    private inner class Opened : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            opening = false
            if (stopped) return camera.close()
            device = camera
            guarded {
                val preview = Surface(view.surfaceTexture!!)
                val targets = listOf(preview, frames!!.surface, photos!!.surface)
                camera.createCaptureSession(targets, Configured(preview), handler)
            }
        }

        override fun onDisconnected(camera: CameraDevice) = close(camera, "another app took it")

        override fun onError(camera: CameraDevice, error: Int) = close(camera, "error $error")

        override fun onClosed(camera: CameraDevice) {
            if (stopped) thread.quit()
        }

        private fun close(camera: CameraDevice, reason: String) {
            opening = false
            camera.close()
            if (!stopped) events.onCameraFailure(reason)
        }
    }

    private inner class Configured(private val preview: Surface) : CameraCaptureSession.StateCallback() {
        override fun onConfigured(configured: CameraCaptureSession) = guarded {
            session = configured
            val request = configured.device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
            request.addTarget(preview)
            request.addTarget(frames!!.surface)
            focus(request)
            configured.setRepeatingRequest(request.build(), null, handler)
            events.onReady()
        }

        override fun onConfigureFailed(failed: CameraCaptureSession) {
            if (!stopped) events.onCameraFailure("it cannot give preview, frames and photos at once")
        }
    }

    private fun takePhoto() {
        val session = session ?: return
        val request = session.device.createCaptureRequest(CameraDevice.TEMPLATE_STILL_CAPTURE)
        request.addTarget(photos!!.surface)
        request[CaptureRequest.JPEG_ORIENTATION] = rotation
        request[CaptureRequest.JPEG_QUALITY] = JPEG_QUALITY
        focus(request)
        session.capture(request.build(), Taken(), handler)
    }

    private inner class Taken : CameraCaptureSession.CaptureCallback() {
        override fun onCaptureFailed(session: CameraCaptureSession, request: CaptureRequest, failure: CaptureFailure) {
            if (!stopped) events.onReady() // to be pressed again
        }
    }

    private fun focus(request: CaptureRequest.Builder) {
        request[CaptureRequest.CONTROL_AF_MODE] = CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE
    }

    private fun onFrame(reader: ImageReader) {
        val image = reader.acquireLatestImage() ?: return
        val now = SystemClock.elapsedRealtime()
        try {
            if (now - lastFrameMs < HINT_EVERY_MS) return
            lastFrameMs = now
            events.onFrame(image, rotation)
        } finally {
            image.close()
        }
    }

    private fun onPhoto(reader: ImageReader) {
        val image = reader.acquireNextImage() ?: return
        val buffer = image.planes[0].buffer
        val jpeg = ByteArray(buffer.remaining())
        buffer.get(jpeg)
        image.close()
        events.onPhoto(jpeg)
    }

    /** A TextureView stretches the sensor's image, upright in the phone's own position, over itself. */
    private fun place() {
        val placement = placement ?: return
        val sideways = placement.sensor % 180 != 0
        val shown = placement.shown
        val width = (if (sideways) shown.height else shown.width).toFloat()
        val height = (if (sideways) shown.width else shown.height).toFloat()
        val turned = placement.display % 180 != 0
        val uprightWidth = if (turned) height else width
        val uprightHeight = if (turned) width else height
        val scale = minOf(view.width / uprightWidth, view.height / uprightHeight)
        val matrix = Matrix()
        val x = view.width / 2f
        val y = view.height / 2f
        matrix.setScale(width / view.width, height / view.height, x, y)
        matrix.postRotate(-placement.display.toFloat(), x, y)
        matrix.postScale(scale, scale, x, y)
        view.setTransform(matrix)
        guide.show(uprightWidth.toInt(), uprightHeight.toInt(), capture.width / capture.height.toFloat())
    }

    /** What is shown, and how the sensor and the display are turned. */
    private class Placement(val shown: CameraSizes.Dimensions, val sensor: Int, val display: Int)

    private companion object {
        const val PREVIEW_WIDTH = 1024
        const val PREVIEW_HEIGHT = 768
        const val PHOTO_PIXELS = 13_000_000
        const val JPEG_QUALITY: Byte = 95
        const val HINT_EVERY_MS = 250L
    }
}
